"""A bundle in memory: checked as far as it can be before it may answer anybody."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple
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
from contracts.trips import LEVELS, LONGEST_MIN, MODEL_INPUTS, VEHICLES, TripRequest, fingerprint, model_inputs
from serving.explanation import Inputs, coalitions, explanations
from serving.watchdog import TooSlow, Watch, Watchdog, within

Stage = Literal["event", "store", "seal", "graph", "signature", "golden"]
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
SEAL = re.compile("[0-9a-f]{64}")
LARGEST_FILE_BYTES = 2**26  # of a bundle: many times what a sound one has, and little enough to read
LONGEST_RUN_S = 5.0  # for a run of the graph whose caller has not said less, and for loading it
P50 = LEVELS.index(0.5)
GOLDEN = TypeAdapter(list[GoldenTrip])
Columns = dict[str, list[int] | list[float]]  # model inputs by name, a number a trip
INPUTS = {it.name: np.dtype(it.dtype) for it in MODEL_INPUTS}
SCOPED = ("minute_of_week", "pickup_zone", "dropoff_zone", "distance_km", "vehicle")  # what the scope asks about
ORT_TYPES = {"int64": "tensor(int64)", "float32": "tensor(float)"}


class BundleRefused(BundleError):
    """The bundle must not serve; `stage` says which check it failed."""

    def __init__(self, stage: Stage, text: str) -> None:
        super().__init__(text.encode("utf-8", "backslashreplace").decode()[:500])  # names of files may be any bytes
        self.stage = stage


class Unexplained(BundleError):
    """The graph threw, or answered no sound minutes, on a mixture of a trip and the typical one."""


class Said(NamedTuple):
    """What one bundle says of one trip: minutes at each of the contract's levels, or the reason why there are none."""

    status: Literal["estimated", "out_of_scope", "misbehaved"]
    minutes: tuple[float, float, float] | None = None
    reason: str | None = None


class Batch:
    """Trips that are asked about at once, and the model's inputs for them, made once for all bundles of a city."""

    def __init__(self, trips: Sequence[TripRequest]) -> None:
        self.trips = trips
        self._made: dict[ZoneInfo, tuple[Columns, Inputs]] = {}

    def columns(self, zone: ZoneInfo) -> Columns:
        """By input name, a number a trip."""
        return self._of(zone)[0]

    def inputs(self, zone: ZoneInfo) -> Inputs:
        """The same as the graph takes them, each of shape (n_trips,)."""
        return self._of(zone)[1]

    def _of(self, zone: ZoneInfo) -> tuple[Columns, Inputs]:
        made = self._made.get(zone)
        if made is None:
            columns = model_inputs(self.trips, zone)
            inputs = {name: np.array(columns[name], dtype) for name, dtype in INPUTS.items()}
            made = self._made[zone] = columns, inputs
        return made


class LoadedBundle:
    """A verified bundle with its graph in memory; it never changes. `seal` is the digest of its checksums, `watch`
    keeps the time of its runs."""

    def __init__(self, manifest: Manifest, seal: str, session: ort.InferenceSession, watch: Watch) -> None:
        self.manifest, self.version, self.seal = manifest, manifest.version, seal
        self.zone, self.graph, self.scope = ZoneInfo(manifest.time_zone), Watchdog(session, watch), manifest.scope
        self._zones = frozenset(self.scope.zones)
        self._vehicles = frozenset(VEHICLES.index(vehicle) for vehicle in self.scope.vehicles)
        self._hours = frozenset(range(7 * 24) if self.scope.hours is None else self.scope.hours)

    def minutes(self, batch: Batch, limit_s: float = LONGEST_RUN_S) -> np.ndarray[Any, Any]:
        """The graph's own answer: minutes, shape (n_trips, 3), unchecked. Raises `TooSlow` after `limit_s`."""
        return self.graph.run(batch.inputs(self.zone), limit_s)

    def explain(self, trips: Sequence[TripRequest], limit_s: float = LONGEST_RUN_S) -> list[Explanation] | None:
        """What adds or saves minutes of each trip's p50, in order, in one run of the graph, 64 rows a trip. None where
        the bundle has no typical trip to explain against. Raises `Unexplained`, too when the run exceeds `limit_s`."""
        if self.manifest.typical is None:
            return None
        asked, typical = (Batch(them).inputs(self.zone) for them in (trips, [self.manifest.typical]))
        try:
            return explanations(asked, typical, self.graph.run(coalitions(asked, typical), limit_s)[:, P50])
        except Exception as error:  # onnxruntime's errors share no base class but this
            text = f"bundle {self.version} can't be explained: {type(error).__name__}: {error}"
            raise Unexplained(text[:500]) from error

    def answer(self, batch: Batch, limit_s: float = LONGEST_RUN_S) -> list[Said]:
        """What the bundle says of each trip, in order, in one run of the graph. Never raises: a graph that throws,
        takes longer than `limit_s` or answers no sound quantiles has misbehaved."""
        outside = self._outside(batch)
        if not outside:
            return self._inside(batch, limit_s)
        inside = [trip for place, trip in enumerate(batch.trips) if place not in outside]
        said = iter(self._inside(Batch(inside), limit_s) if inside else [])
        return [outside.get(place) or next(said) for place in range(len(batch.trips))]

    def _outside(self, batch: Batch) -> dict[int, Said]:
        """Which trips lie outside the scope, by their place: what `Scope.reason_outside` tells, but for those alone."""
        columns, scope = batch.columns(self.zone), self.scope
        found = {}
        for place, (minute, pickup, dropoff, km, vehicle) in enumerate(
            zip(*(columns[name] for name in SCOPED), strict=True)
        ):
            if not (
                pickup in self._zones
                and dropoff in self._zones
                and vehicle in self._vehicles
                and scope.min_distance_km <= km <= scope.max_distance_km
                and minute // 60 in self._hours
            ):
                found[place] = Said("out_of_scope", reason=scope.reason_outside(batch.trips[place], self.zone))
        return found

    def _inside(self, batch: Batch, limit_s: float) -> list[Said]:
        try:
            rows = self.minutes(batch, limit_s).tolist()
        except TooSlow as error:
            return [Said("misbehaved", reason=f"the graph gave {error}")] * len(batch.trips)
        except Exception as error:  # onnxruntime's errors share no base class but this
            reason = f"the graph threw {type(error).__name__}: {error}"[:300]
            return [Said("misbehaved", reason=reason)] * len(batch.trips)
        return [_sound(*row) for row in rows]


def _sound(p10: float, p50: float, p90: float) -> Said:
    if not 0 < p10 <= p50 <= p90 <= LONGEST_MIN:  # else the contract need not be asked
        try:
            Quantiles(p10_min=p10, p50_min=p50, p90_min=p90)
        except ValidationError as error:
            return Said("misbehaved", reason=f"p10={p10}, p50={p50}, p90={p90} min: {error.errors()[0]['msg']}")
    return Said("estimated", (p10, p50, p90))


def load(root: Path, version: str, seal: str | None, watch: Watch, limit_s: float = LONGEST_RUN_S) -> LoadedBundle:
    """Verify, load and warm a bundle; `seal` is the digest of its checksums where the caller knows it.

    Raises `BundleRefused`, saying which check it failed and how; a graph that takes longer than `limit_s` to load, or
    to answer its golden trips, fails.
    """
    folder = root / version
    with checking("seal", version):
        check_version(version)
        _check_sizes(folder)
        manifest, sealed = verify(folder, seal), digest(folder / CHECKSUMS)
    with checking("graph", version):
        session = within(limit_s, partial(_session, folder / "model.onnx"))
        bundle = LoadedBundle(manifest, sealed, session, watch)
    with checking("signature", version):
        _check_signature(session)
    with checking("golden", version):
        golden = GOLDEN.validate_json((folder / "golden.json").read_bytes())
        within(limit_s, partial(_check_golden, bundle, golden, limit_s))
    return bundle


@contextmanager
def checking(stage: Stage, version: str) -> Iterator[None]:
    """Whatever goes wrong while a bundle is checked is a reason to refuse it, never one to stop serving."""
    try:
        yield
    except Exception as error:  # files, JSON and onnxruntime fail in too many ways to name
        raise BundleRefused(stage, f"{version}, {stage}: {error}") from error


def check_version(version: str) -> None:
    """Raises `BundleError` where a version could lead out of the folder of bundles."""
    if not VERSION.fullmatch(version):
        raise BundleError("not a bundle version: letters, digits, dots and dashes, 64 at most")


def _check_sizes(folder: Path) -> None:
    """Before anything of it is read: a pipe never ends, and a file of gigabytes takes all memory."""
    for path in folder.glob("*"):
        if not path.is_file() or path.stat().st_size > LARGEST_FILE_BYTES:
            raise BundleError(f"{path.name} is no plain file of at most {LARGEST_FILE_BYTES} bytes")


def _session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong is raised, and told by whom it concerns
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


def _check_golden(bundle: LoadedBundle, golden: Sequence[GoldenTrip], limit_s: float) -> None:
    if not golden:
        raise BundleError("no golden trips, so nothing shows that it answers right")
    expected = np.array([[item.quantiles.p10_min, item.quantiles.p50_min, item.quantiles.p90_min] for item in golden])
    one, every = Batch([golden[0].trip]), Batch([item.trip for item in golden])
    bundle.minutes(one, limit_s)  # the size that most requests have, so that the first of them finds it warm
    off = float(np.abs(bundle.minutes(every, limit_s) - expected).max())
    if not off <= GOLDEN_TOLERANCE_MIN:  # NaN must fail too
        raise BundleError(f"off its golden trips by {off:.3f} min, at most {GOLDEN_TOLERANCE_MIN} allowed")
