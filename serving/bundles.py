"""A bundle in memory: checked as far as it can be before it may answer anybody."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

import numpy as np
import onnxruntime as ort  # type: ignore[import-untyped]
from pydantic import TypeAdapter, ValidationError

from contracts.bundle import (
    CHECKSUMS,
    FINGERPRINT_KEY,
    GOLDEN_TOLERANCE_MIN,
    OUTPUT,
    BundleError,
    GoldenTrip,
    Manifest,
    digest,
    verify,
)
from contracts.estimates import Explanation, Quantiles
from contracts.trips import LEVELS, MODEL_INPUTS, TripRequest, fingerprint, model_inputs
from serving.explanation import Inputs, coalitions, explanations

Stage = Literal["event", "seal", "graph", "signature", "golden"]
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
P50 = LEVELS.index(0.5)
GOLDEN = TypeAdapter(list[GoldenTrip])
ORT_TYPES = {"int64": "tensor(int64)", "float32": "tensor(float)"}


class BundleRefused(BundleError):
    """The bundle must not serve; `stage` says which check it failed."""

    def __init__(self, stage: Stage, text: str) -> None:
        super().__init__(text[:500])
        self.stage = stage


class Unexplained(BundleError):
    """The graph threw, or answered no sound minutes, on a mixture of a trip and the typical one."""


@dataclass(frozen=True, slots=True)
class Said:
    """What one bundle says of one trip: quantiles, or the reason why there are none."""

    status: Literal["estimated", "out_of_scope", "misbehaved"]
    quantiles: Quantiles | None = None
    reason: str | None = None


class LoadedBundle:
    """A verified bundle with its graph in memory; it never changes. `seal` is the digest of its checksums."""

    def __init__(self, manifest: Manifest, seal: str, session: ort.InferenceSession) -> None:
        self.manifest, self.version, self.seal = manifest, manifest.version, seal
        self.session, self.zone = session, ZoneInfo(manifest.time_zone)

    def minutes(self, trips: Sequence[TripRequest]) -> np.ndarray[Any, Any]:
        """The graph's own answer: minutes, shape (n_trips, 3), unchecked."""
        return self._run(self._inputs(trips))

    def explain(self, trips: Sequence[TripRequest]) -> list[Explanation] | None:
        """What adds or saves minutes of each trip's p50, in order, in one run of the graph, 64 rows a trip. None where
        the bundle has no typical trip to explain against. Raises `Unexplained`."""
        if self.manifest.typical is None:
            return None
        asked, typical = self._inputs(trips), self._inputs([self.manifest.typical])
        try:
            return explanations(asked, typical, self._run(coalitions(asked, typical))[:, P50])
        except Exception as error:  # onnxruntime's errors share no base class but this
            text = f"bundle {self.version} can't be explained: {type(error).__name__}: {error}"
            raise Unexplained(text[:500]) from error

    def _inputs(self, trips: Sequence[TripRequest]) -> Inputs:
        columns = model_inputs(trips, self.zone)
        return {item.name: np.array(columns[item.name], dtype=item.dtype) for item in MODEL_INPUTS}

    def _run(self, feed: Inputs) -> np.ndarray[Any, Any]:
        answer: np.ndarray[Any, Any] = self.session.run([OUTPUT], feed)[0]
        return answer

    def answer(self, trips: Sequence[TripRequest], limit_s: float | None = None) -> list[Said]:
        """What the bundle says of each trip, in order, in one run of the graph. Never raises: a graph that throws,
        answers no sound quantiles or takes longer than `limit_s` has misbehaved."""
        outside = [self.manifest.scope.reason_outside(trip, self.zone) for trip in trips]
        inside = [trip for trip, reason in zip(trips, outside, strict=True) if reason is None]
        said = iter(self._inside(inside) if inside else [])
        return [next(said) if reason is None else Said("out_of_scope", reason=reason) for reason in outside]

    def _inside(self, trips: Sequence[TripRequest]) -> list[Said]:
        try:
            rows = self.minutes(trips).tolist()
        except Exception as error:  # onnxruntime's errors share no base class but this
            return [Said("misbehaved", reason=f"the graph threw {type(error).__name__}: {error}"[:300])] * len(trips)
        return [_sound(*row) for row in rows]


def _sound(p10: float, p50: float, p90: float) -> Said:
    try:
        return Said("estimated", Quantiles(p10_min=p10, p50_min=p50, p90_min=p90))
    except ValidationError as error:
        return Said("misbehaved", reason=f"p10={p10}, p50={p50}, p90={p90} min: {error.errors()[0]['msg']}")


def load(root: Path, version: str, seal: str | None) -> LoadedBundle:
    """Verify, load and warm a bundle; `seal` is the digest of its checksums where the caller knows it.

    Raises `BundleRefused`, saying which check it failed and how.
    """
    folder = root / version
    with _checking("seal", version):
        if not VERSION.fullmatch(version):
            raise BundleError("not a bundle version: letters, digits, dots and dashes, 64 at most")
        manifest, sealed = verify(folder, seal), digest(folder / CHECKSUMS)
    with _checking("graph", version):
        bundle = LoadedBundle(manifest, sealed, _session(folder / "model.onnx"))
    with _checking("signature", version):
        _check_signature(bundle.session)
    with _checking("golden", version):
        _check_golden(bundle, GOLDEN.validate_json((folder / "golden.json").read_bytes()))
    return bundle


@contextmanager
def _checking(stage: Stage, version: str) -> Iterator[None]:
    """Whatever goes wrong while a bundle is checked is a reason to refuse it, never one to stop serving."""
    try:
        yield
    except Exception as error:  # files, JSON and onnxruntime fail in too many ways to name
        raise BundleRefused(stage, f"{version}, {stage}: {error}") from error


def _session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # A pool that spins while it waits takes the processor from its neighbours.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _check_signature(session: ort.InferenceSession) -> None:
    inputs = {item.name: (item.type, [isinstance(size, int) for size in item.shape]) for item in session.get_inputs()}
    outputs = [(item.name, item.type, item.shape[1:]) for item in session.get_outputs()]
    free_batch = [False]  # one dimension, whose size is no fixed number
    for what, found, expected in (
        ("contract", session.get_modelmeta().custom_metadata_map.get(FINGERPRINT_KEY), fingerprint()),
        ("inputs", inputs, {item.name: (ORT_TYPES[item.dtype], free_batch) for item in MODEL_INPUTS}),
        ("outputs", outputs, [(OUTPUT, ORT_TYPES["float32"], [len(LEVELS)])]),
    ):
        if found != expected:
            raise BundleError(f"the graph's {what}: {found}, expected {expected}; export it under this contract")


def _check_golden(bundle: LoadedBundle, golden: Sequence[GoldenTrip]) -> None:
    if not golden:
        raise BundleError("no golden trips, so nothing shows that it answers right")
    expected = np.array([[item.quantiles.p10_min, item.quantiles.p50_min, item.quantiles.p90_min] for item in golden])
    bundle.minutes([golden[0].trip])  # the size that most requests have, so that the first of them finds it warm
    off = float(np.abs(bundle.minutes([item.trip for item in golden]) - expected).max())
    if not off <= GOLDEN_TOLERANCE_MIN:  # NaN must fail too
        raise BundleError(f"off its golden trips by {off:.3f} min, at most {GOLDEN_TOLERANCE_MIN} allowed")
