"""Tiny real bundles for tests: p50 grows by `minutes_per_km` with the distance; sealed as model seals its own.

One that `heeds_conditions` takes the city pace as a factor of the driving, rain as another, and adds up to five minutes
towards the end of the week.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from contracts.bundle import (
    FINGERPRINT_KEY,
    OUTPUT,
    BundleReleased,
    Evidence,
    GoldenTrip,
    Lineage,
    Manifest,
    Scope,
    Slice,
    digest,
    write_checksums,
)
from contracts.estimates import Quantiles
from contracts.trips import MODEL_INPUTS, VEHICLES, TripRequest, fingerprint

TRAINED_AT = datetime(2026, 5, 31, 22, tzinfo=UTC)
BASE_MIN = 5.0
LOW, HIGH = 0.7, 1.5  # p10 and p90 as multiples of p50
SLOWER_BY_RAIN = 0.1  # share of the driving, for each mm/h, where a bundle heeds conditions
WEEK_STARTS = "2026-06-01T00:00:00+02:00"
MIN_PER_WEEK = 5.0  # added to p50 by the end of the week, where a bundle heeds conditions
SOUND_UP_TO_KM = 50.0  # a misbehaving bundle is sound on shorter trips, so that its golden trips pass

Fault = Literal["nan", "crossing", "throws", "hangs"]


def quantiles_of(distance_km: float, minutes_per_km: float = 2.0) -> Quantiles:
    """What a bundle made here answers for a trip of this length."""
    p50 = BASE_MIN + minutes_per_km * distance_km
    return Quantiles(p10_min=LOW * p50, p50_min=p50, p90_min=HIGH * p50)


def a_trip(trip_id: str = "trip-1", **changes: object) -> TripRequest:
    """A trip inside the scope of every bundle made here, 3 km long unless told otherwise."""
    fields: dict[str, object] = {
        "trip_id": trip_id,
        "requested_at": "2026-06-01T09:00:00+02:00",
        "pickup_zone": 4,
        "dropoff_zone": 31,
        "distance_km": 3.0,
        "vehicle": "bike",
    }
    return TripRequest.model_validate(fields | changes)


TYPICAL = a_trip("typical")


def make_bundle(
    root: Path,
    version: str,
    minutes_per_km: float = 2.0,
    *,
    zones: range = range(1, 61),
    hours: list[int] | None = None,
    typical: TripRequest | None = TYPICAL,
    heeds_conditions: bool = False,
    misbehaves: Fault | None = None,
    golden_off_min: float = 0.0,
    input_name: str = "distance_km",
    output_name: str = OUTPUT,
    graph_fingerprint: str | None = None,
    manifest_fingerprint: str | None = None,
) -> Path:
    """Write `<root>/<version>/` and answer that folder.

    `misbehaves` spoils the answers for trips above `SOUND_UP_TO_KM`; the other keywords make bundles to be refused:
    golden trips that are off, a foreign name for the distance input or the output, a fingerprint of another contract.
    """
    folder = root / version
    folder.mkdir(parents=True)
    model = _model(minutes_per_km, heeds_conditions, misbehaves, input_name, output_name)
    helper.set_model_props(model, {FINGERPRINT_KEY: graph_fingerprint or fingerprint()})
    onnx.save(model, folder / "model.onnx")
    manifest = Manifest(
        version=version,
        contract_fingerprint=manifest_fingerprint or fingerprint(),
        time_zone="Europe/Berlin",
        scope=Scope(zones=list(zones), vehicles=list(VEHICLES), min_distance_km=0.05, max_distance_km=100, hours=hours),
        lineage=Lineage(code_revision="test", snapshot_digest="0" * 64, seed=1, libraries={"onnx": onnx.__version__}),
        trained_at=TRAINED_AT,
        above_p90_reference=[0.1] * 168,
        below_p10_reference=[0.1] * 168,
        typical=typical,
    )
    (folder / "bundle.json").write_text(manifest.model_dump_json())
    (folder / "evidence.json").write_text(_evidence(folder / "model.onnx").model_dump_json())
    golden = []
    for distance in (0.5, 3.0, 12.0):
        sound = quantiles_of(distance, minutes_per_km)
        moved = sound.model_copy(update={"p90_min": sound.p90_min + golden_off_min})
        trip = a_trip(f"golden-{distance:g}".replace(".", "-"), distance_km=distance, requested_at=WEEK_STARTS)
        golden.append(GoldenTrip(trip=trip, quantiles=moved))
    (folder / "golden.json").write_text(json.dumps([item.model_dump(mode="json") for item in golden]))
    (folder / "card.md").write_text(f"# Bundle {version}\nMade by a test: {minutes_per_km:g} minutes a kilometre.\n")
    write_checksums(folder)
    return folder


def released(folder: Path) -> BundleReleased:
    """The event under which model releases this bundle."""
    return BundleReleased(
        version=folder.name,
        checksums_sha256=digest(folder / "SHA256SUMS"),
        decision_id=None,
        manifest=Manifest.model_validate_json((folder / "bundle.json").read_bytes()),
        evidence=Evidence.model_validate_json((folder / "evidence.json").read_bytes()),
    )


def _model(
    minutes_per_km: float, heeds_conditions: bool, misbehaves: Fault | None, input_name: str, output_name: str
) -> onnx.ModelProto:
    names = {item.name: input_name if item.name == "distance_km" else item.name for item in MODEL_INPUTS}
    kinds = {"int64": TensorProto.INT64, "float32": TensorProto.FLOAT}
    inputs = [helper.make_tensor_value_info(names[item.name], kinds[item.dtype], ["batch"]) for item in MODEL_INPUTS]
    output = helper.make_tensor_value_info(output_name, TensorProto.FLOAT, ["batch", 3])
    constants = {
        "slope": np.float32(minutes_per_km),
        "base": np.float32(BASE_MIN),
        "column": np.array([1], np.int64),
        "shares": np.array([[LOW, 1, HIGH]], np.float32),
        "limit": np.float32(SOUND_UP_TO_KM),
        "nan": np.float32("nan"),
        "backwards": np.array([[HIGH, 1, LOW]], np.float32),
        "one": np.array([1], np.float32),
        "zero": np.float32(0),
        "for_ever": np.int64(2**62),
        "once": np.int64(1),
        "slower": np.float32(SLOWER_BY_RAIN),
        "per_minute": np.float32(MIN_PER_WEEK / (7 * 1440)),
    }
    driving, base, nodes = "driving", "base", [helper.make_node("Mul", [input_name, "slope"], ["driving"])]
    if heeds_conditions:
        driving, base = "slowed_driving", "later_base"
        nodes += [
            helper.make_node("IsNaN", ["city_pace"], ["no_pace"]),
            helper.make_node("Where", ["no_pace", "one", "city_pace"], ["pace"]),
            helper.make_node("IsNaN", ["rain_mm_h"], ["no_rain"]),
            helper.make_node("Where", ["no_rain", "zero", "rain_mm_h"], ["rain"]),
            helper.make_node("Mul", ["rain", "slower"], ["slower_by"]),
            helper.make_node("Add", ["slower_by", "one"], ["wet"]),
            helper.make_node("Mul", ["driving", "pace"], ["paced_driving"]),
            helper.make_node("Mul", ["paced_driving", "wet"], [driving]),
            helper.make_node("Cast", ["minute_of_week"], ["minute"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["minute", "per_minute"], ["by_time"]),
            helper.make_node("Add", ["by_time", "base"], [base]),
        ]
    nodes += [
        helper.make_node("Add", [driving, base], ["p50"]),
        helper.make_node("Unsqueeze", ["p50", "column"], ["p50_column"]),
        helper.make_node("Greater", [input_name, "limit"], ["too_long"]),
        helper.make_node("Unsqueeze", ["too_long", "column"], ["too_long_column"]),
    ]
    shares = "shares"
    if misbehaves == "nan":
        nodes.append(helper.make_node("Where", ["too_long_column", "nan", "shares"], ["spoilt"]))
        shares = "spoilt"
    elif misbehaves == "crossing":
        nodes.append(helper.make_node("Where", ["too_long_column", "backwards", "shares"], ["spoilt"]))
        shares = "spoilt"
    elif misbehaves == "throws":  # reads past the end of a list of one
        nodes += [
            helper.make_node("Cast", ["too_long_column"], ["index"], to=TensorProto.INT64),
            helper.make_node("Gather", ["one", "index"], ["ones"]),
            helper.make_node("Mul", ["ones", "shares"], ["spoilt"]),
        ]
        shares = "spoilt"
    elif misbehaves == "hangs":
        nodes += [
            helper.make_node("Cast", ["too_long"], ["hanging"], to=TensorProto.INT64),
            helper.make_node("ReduceMax", ["hanging"], ["any_hangs"], keepdims=0),
            helper.make_node("Mul", ["any_hangs", "for_ever"], ["ever"]),
            helper.make_node("Max", ["ever", "once"], ["times"]),
            helper.make_node("Loop", ["times", "", shares], ["spoilt"], body=_going_round()),
        ]
        shares = "spoilt"
    nodes.append(helper.make_node("Mul", ["p50_column", shares], [output_name]))
    used = {name for node in nodes for name in node.input}
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items() if name in used]
    graph = helper.make_graph(nodes, "minutes", inputs, [output], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def _going_round() -> onnx.GraphProto:
    """The body of a loop that hands its shares on as they are."""
    inputs = [
        helper.make_tensor_value_info("round", TensorProto.INT64, []),
        helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
        helper.make_tensor_value_info("shares_in", TensorProto.FLOAT, [1, 3]),
    ]
    outputs = [
        helper.make_tensor_value_info("still", TensorProto.BOOL, []),
        helper.make_tensor_value_info("shares_out", TensorProto.FLOAT, [1, 3]),
    ]
    nodes = [
        helper.make_node("Identity", ["go_on"], ["still"]),
        helper.make_node("Identity", ["shares_in"], ["shares_out"]),
    ]
    return helper.make_graph(nodes, "going round", inputs, outputs)


def _evidence(model: Path) -> Evidence:
    part = Slice(
        rows=1000,
        pinball_min=1.0,
        heuristic_pinball_min=2.0,
        coverage_p90=0.9,
        coverage_band=0.8,
        mean_p50_min=15.0,
    )
    return Evidence(
        test_rows=1000,
        test_from=TRAINED_AT,
        test_to=TRAINED_AT,
        overall=part,
        zone_groups={},
        training_s=1.0,
        bundle_bytes=model.stat().st_size,
        onnx_matches_torch_min=0.0,
        gate=[],
    )
