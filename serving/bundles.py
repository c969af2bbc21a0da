"""A bundle in memory: checked as far as it can be before it may answer anybody."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

import numpy as np
import onnxruntime as ort
from pydantic import TypeAdapter, ValidationError

from contracts.bundle import (
    FINGERPRINT_KEY,
    GOLDEN_TOLERANCE_MIN,
    OUTPUT,
    BundleError,
    GoldenTrip,
    Manifest,
    verify,
)
from contracts.estimates import Quantiles
from contracts.trips import LEVELS, MODEL_INPUTS, TripRequest, fingerprint, model_inputs

Status = Literal["estimated", "out_of_scope", "misbehaved"]
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
GOLDEN = TypeAdapter(list[GoldenTrip])
ORT_TYPES = {"int64": "tensor(int64)", "float32": "tensor(float)"}
Stage = Literal["event", "seal", "graph", "signature", "golden"]


class BundleRefused(BundleError):
    """The bundle must not serve; `stage` says which check it failed."""

    def __init__(self, stage: Stage, text: str) -> None:
        super().__init__(text)
        self.stage = stage


@dataclass(frozen=True, slots=True)
class Said:
    """What one bundle says of one trip: quantiles, or the reason why there are none."""

    status: Status
    quantiles: Quantiles | None = None
    reason: str | None = None


class LoadedBundle:
    """A verified bundle with its graph in memory; it never changes."""

    def __init__(self, manifest: Manifest, session: ort.InferenceSession) -> None:
        self.manifest, self.version = manifest, manifest.version
        self._session, self._zone = session, ZoneInfo(manifest.time_zone)

    def minutes(self, trips: Sequence[TripRequest]) -> np.ndarray[Any, Any]:
        """The graph's own answer: minutes, shape (n_trips, 3), unchecked."""
        columns = model_inputs(trips, self._zone)
        feed = {item.name: np.array(columns[item.name], dtype=item.dtype) for item in MODEL_INPUTS}
        answer: np.ndarray[Any, Any] = self._session.run([OUTPUT], feed)[0]
        return answer

    def answer(self, trips: Sequence[TripRequest]) -> list[Said]:
        """What the bundle says of each trip, in order, in one run of the graph. Never raises: a graph that throws or
        answers no sound quantiles has misbehaved."""
        outside = [self.manifest.scope.reason_outside(trip) for trip in trips]
        inside = [trip for trip, reason in zip(trips, outside, strict=True) if reason is None]
        said = iter(self._inside(inside) if inside else [])
        return [next(said) if reason is None else Said("out_of_scope", reason=reason) for reason in outside]

    def _inside(self, trips: Sequence[TripRequest]) -> list[Said]:
        try:
            rows = self.minutes(trips).tolist()
        except Exception as error:  # onnxruntime's errors share no base class but this
            return [Said("misbehaved", reason=f"the graph threw {type(error).__name__}: {error}"[:300])] * len(trips)
        return [_sound(row) for row in rows]


def _sound(row: list[float]) -> Said:
    p10, p50, p90 = row
    try:
        return Said("estimated", Quantiles(p10_min=p10, p50_min=p50, p90_min=p90))
    except ValidationError as error:
        return Said("misbehaved", reason=f"p10={p10}, p50={p50}, p90={p90} min: {error.errors()[0]['msg']}")


def load(root: Path, version: str, checksums_sha256: str | None) -> LoadedBundle:
    """Verify, load and warm a bundle. Raises `BundleRefused`, saying which check it failed and how."""
    if not VERSION.fullmatch(version):
        raise BundleRefused("seal", f"{version!r} is no bundle version: letters, digits, dots and dashes, 64 at most")
    folder = root / version
    try:
        manifest = verify(folder, checksums_sha256)
    except (BundleError, OSError, UnicodeDecodeError) as error:
        raise BundleRefused("seal", str(error)) from error
    try:
        bundle = LoadedBundle(manifest, _session(folder / "model.onnx"))
    except Exception as error:  # onnxruntime's errors share no base class but this
        raise BundleRefused("graph", f"{version}: cannot be loaded: {error}"[:500]) from error
    _check_signature(version, bundle._session)
    _check_golden(bundle, folder / "golden.json")
    return bundle


def _session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # A pool that spins while it waits takes the processor from its neighbours.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _check_signature(version: str, session: ort.InferenceSession) -> None:
    made_for = session.get_modelmeta().custom_metadata_map.get(FINGERPRINT_KEY, "none")
    if made_for != fingerprint():
        raise BundleRefused(
            "signature", f"{version}: its graph was made for contract {made_for[:12]}, ours is {fingerprint()[:12]}"
        )
    inputs = {item.name: (item.type, len(item.shape)) for item in session.get_inputs()}
    expected = {item.name: (ORT_TYPES[item.dtype], 1) for item in MODEL_INPUTS}
    if inputs != expected:
        odd = sorted(set(inputs.items()) ^ set(expected.items()))
        raise BundleRefused("signature", f"{version}: inputs differ from the contract's in {odd}")
    if any(isinstance(item.shape[0], int) for item in session.get_inputs()):
        raise BundleRefused(
            "signature", f"{version}: takes batches of one fixed size; export it with a free batch size"
        )
    outputs = [(item.name, item.type, item.shape[1:]) for item in session.get_outputs()]
    if outputs != [(OUTPUT, ORT_TYPES["float32"], [len(LEVELS)])]:
        raise BundleRefused("signature", f"{version}: outputs {outputs}, expected {OUTPUT} of shape (batch, 3)")


def _check_golden(bundle: LoadedBundle, path: Path) -> None:
    try:
        golden = GOLDEN.validate_json(path.read_bytes())
    except ValidationError as error:
        fault = error.errors()[0]
        raise BundleRefused("golden", f"{bundle.version}: golden trip {fault['loc']}: {fault['msg']}") from error
    if not golden:
        raise BundleRefused("golden", f"{bundle.version}: no golden trips, so nothing shows that it answers right")
    expected = np.array([[item.quantiles.p10_min, item.quantiles.p50_min, item.quantiles.p90_min] for item in golden])
    trips = [item.trip for item in golden]
    try:
        bundle.minutes(trips[:1])  # the size that most requests have, so that the first of them finds it warm
        off = float(np.abs(bundle.minutes(trips) - expected).max())
    except Exception as error:  # onnxruntime's errors share no base class but this
        raise BundleRefused("golden", f"{bundle.version}: throws on its golden trips: {error}"[:500]) from error
    if not off <= GOLDEN_TOLERANCE_MIN:  # NaN must fail too
        raise BundleRefused(
            "golden", f"{bundle.version}: off its golden trips by {off:.3f} min, at most {GOLDEN_TOLERANCE_MIN} allowed"
        )
