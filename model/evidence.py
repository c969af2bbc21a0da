"""What is known of a candidate: everything measured on its held-out trips, before the gate judges it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np

from contracts.bundle import Bounds, Evidence, PromiseLevel
from model import runtime
from model.behaviour import behaviour
from model.bundle import arrays, requests
from model.candidate import Candidate
from model.evaluation import Results, trip_pinball_min
from model.export import run
from model.fit import WEATHER
from model.network import predict
from model.slices import labels

TESTED_TRIPS = 500  # for behaviour
STRETCHES = np.arange(0.0, 2.025, 0.05)  # of the gap from p50 to p90: from every other trip late to hardly any
OFF = 0.1  # how far planned distances are off when they are noisy


@dataclass(frozen=True)
class Found:
    """Evidence that lacks the gate's verdicts, and what the gate reads beside it."""

    evidence: Evidence
    blind_ratio: tuple[float, Bounds] | None


def gather(
    candidate: Candidate,
    rivals: Mapping[str, np.ndarray],
    onnx_file: Path,
    zone: ZoneInfo,
    training_s: float,
    difference: float,
) -> Found:
    """Measure a candidate. `rivals` are other models' quantiles on the same held-out trips, shape (n, 3) each; the
    bundle's bytes are known later."""
    test, answers = candidate.test, candidate.quantiles_min
    results = Results.of(test, answers, candidate.heuristic_min)
    some = requests(test, np.unique(np.linspace(0, len(test) - 1, TESTED_TRIPS).astype(int)))
    ladder = {"heuristic": candidate.heuristic_min, **rivals, "candidate": answers}
    first, last = requests(test, np.array([0, len(test) - 1]))
    evidence = Evidence(
        test_rows=len(test),
        test_from=first.requested_at,
        test_to=last.requested_at,
        overall=results.slice(),
        zone_groups=results.by(test.group, at_once=True),
        slices={name: results.by(label) for name, label in labels(test.inputs).items()},
        block=results.sure.unit,
        blocks=results.sure.count,
        ladder={name: float(trip_pinball_min(found, test.duration_min).mean()) for name, found in ladder.items()},
        behaviour=behaviour(lambda asked: run(onnx_file, arrays(asked, zone)), some, candidate.scope, zone),
        noisy_distance_ratio=_with_noise(candidate, results),
        runtime=runtime.measured(onnx_file),
        promise_levels=promise_levels(answers, test.duration_min),
        training_s=training_s,
        bundle_bytes=0,
        onnx_matches_torch_min=difference,
        gate=[],
    )
    return Found(evidence, None if candidate.corrects else _blind(candidate, results))


def promise_levels(quantiles_min: np.ndarray, duration_min: np.ndarray) -> list[PromiseLevel]:
    """What promising further out or closer in than p90 would have meant; shapes (n, 3) and (n,)."""
    _, p50, p90 = quantiles_min.T
    levels = []
    for stretch in STRETCHES:
        promise = p50 * (p90 / p50) ** stretch
        late = float((duration_min > promise).mean())
        levels.append(
            PromiseLevel(stretch=round(float(stretch), 2), promised_min=float(promise.mean()), late_share=late)
        )
    return levels


def _blind(candidate: Candidate, results: Results) -> tuple[float, Bounds]:
    """Loss without rain and temperature over the loss with them."""
    test = candidate.test
    blinded = test.inputs | {name: np.full_like(test.inputs[name], np.nan) for name in WEATHER}
    blind = trip_pinball_min(predict(candidate.network, blinded), test.duration_min).mean(1)
    return results.sure.ratio(blind, results.loss_min)


def _with_noise(candidate: Candidate, results: Results) -> float:
    """Loss with distances off by a tenth, up or down, over the loss without; by the network that would serve."""
    test = candidate.test
    factor = 1 + OFF * np.random.default_rng(1).choice([-1.0, 1.0], len(test))
    low, high = candidate.scope.min_distance_km, candidate.scope.max_distance_km
    noisy = (test.inputs["distance_km"] * factor).clip(low, high).astype(np.float32)
    right, wrong = (
        trip_pinball_min(predict(candidate.network, inputs), test.duration_min).mean(1)
        for inputs in (test.inputs, test.inputs | {"distance_km": noisy})
    )
    return results.sure.ratio(wrong, right)[0]
