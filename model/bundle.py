"""Sealing a bundle: all its files in a folder that appears by one rename, after anyone's checks have passed."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC
from math import isnan
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np

from contracts.bundle import (
    GOLDEN_TOLERANCE_MIN,
    BundleError,
    Evidence,
    GoldenTrip,
    Manifest,
    Scope,
    digest,
    verify,
    write_checksums,
)
from contracts.estimates import Quantiles
from contracts.trips import MODEL_INPUTS, VEHICLES, TripRequest, model_inputs
from model.card import card
from model.export import run
from model.snapshot import Inputs, Trips

GOLDEN_TRIPS = 32
NULLABLE = tuple(item.name for item in MODEL_INPUTS if item.nullable)
UNKNOWN_OFF = 3.0  # standard deviations that a missing value counts as


def seal(
    waiting_room: Path,
    bundles: Path,
    onnx_file: Path,
    golden: list[GoldenTrip],
    manifest: Callable[[str], Manifest],
    evidence: Callable[[int], Evidence],
) -> tuple[Path, Evidence]:
    """Put a bundle together in the waiting room, accepted as serving would; answers its folder and evidence.

    Its version is the next one among `bundles`, where a release moves it by a rename; until then nothing is loadable.
    `manifest` takes the version, `evidence` the bundle's bytes.
    """
    waiting_room.mkdir(parents=True, exist_ok=True)
    bundles.mkdir(parents=True, exist_ok=True)
    name = f"v{1 + max(_numbers(bundles), default=0)}-{digest(onnx_file)[:8]}"
    with tempfile.TemporaryDirectory(dir=waiting_room, prefix=".half-") as half:
        folder = Path(half) / name
        folder.mkdir()
        shutil.copy(onnx_file, folder / "model.onnx")
        made = manifest(name)
        (folder / "bundle.json").write_text(made.model_dump_json(indent=1))
        (folder / "golden.json").write_text(json.dumps([item.model_dump(mode="json") for item in golden], indent=1))
        for _ in range(3):  # evidence and card tell the size of the whole, themselves included: write until it holds
            found = evidence(sum(path.stat().st_size for path in folder.iterdir()))
            (folder / "evidence.json").write_text(found.model_dump_json(indent=1))
            (folder / "card.md").write_text(card(made, found))
            write_checksums(folder)
        accept(folder)
        shutil.rmtree(waiting_room / name, ignore_errors=True)  # the same weights, proposed before
        folder.rename(waiting_room / name)
    return waiting_room / name, found


def accept(folder: Path) -> None:
    """Check a bundle as its user will: files, contract, golden trips. Raises `BundleError`."""
    manifest = verify(folder)
    golden = [GoldenTrip.model_validate(item) for item in json.loads((folder / "golden.json").read_text())]
    got = run(folder / "model.onnx", arrays([item.trip for item in golden], ZoneInfo(manifest.time_zone)))
    said = np.array([[item.quantiles.p10_min, item.quantiles.p50_min, item.quantiles.p90_min] for item in golden])
    off = float(np.abs(got - said).max())
    if not off <= GOLDEN_TOLERANCE_MIN:
        raise BundleError(f"{folder.name}: golden trips are off by {off:.3g} min: the graph is not the one recorded")


def golden_trips(trips: Trips, onnx_file: Path, zone: ZoneInfo) -> list[GoldenTrip]:
    """Trips evenly spread over `trips` with what the graph says of them; every fourth one with its weather missing."""
    asked = [
        trip.model_copy(
            update={"trip_id": f"golden-{number:02}"}
            | ({} if number % 4 else {"rain_mm_h": None, "temperature_c": None})
        )
        for number, trip in enumerate(requests(trips, np.linspace(0, len(trips) - 1, GOLDEN_TRIPS).astype(int)))
    ]
    answers = run(onnx_file, arrays(asked, zone))
    return [
        GoldenTrip(trip=trip, quantiles=Quantiles(p10_min=low, p50_min=middle, p90_min=high))
        for trip, (low, middle, high) in zip(asked, answers.tolist(), strict=True)
    ]


def requests(trips: Trips, rows: np.ndarray) -> list[TripRequest]:
    """The trips at `rows` as they were asked for, under made-up ids: training never sees the real ones."""
    some = trips.take(rows)
    columns = {name: values.tolist() for name, values in some.inputs.items()}
    return [
        TripRequest(
            trip_id=f"held-out-{row}",
            requested_at=at.replace(tzinfo=UTC),
            pickup_zone=columns["pickup_zone"][place],
            dropoff_zone=columns["dropoff_zone"][place],
            distance_km=columns["distance_km"][place],
            vehicle=VEHICLES[columns["vehicle"][place]],
            **{name: None if isnan(columns[name][place]) else columns[name][place] for name in NULLABLE},
        )
        for place, (row, at) in enumerate(zip(rows.tolist(), some.requested_at.tolist(), strict=True))
    ]


def typical_trip(trips: Trips) -> TripRequest:
    """The trip to compare others with: of the commonest vehicle, the one whose columns lie nearest to the medians, its
    duration among them."""
    vehicle = np.bincount(trips.inputs["vehicle"]).argmax()
    alike = np.flatnonzero(trips.inputs["vehicle"] == vehicle)
    far = np.zeros(len(alike))
    for values in (np.log(trips.duration_min), *(trips.inputs[name] for name in ("distance_km", *NULLABLE))):
        here = values[alike]
        if np.isnan(here).all():
            continue
        off = np.abs(here - np.nanmedian(here)) / max(float(np.nanstd(here)), 1e-9)
        far += np.nan_to_num(off, nan=UNKNOWN_OFF) ** 2
    (trip,) = requests(trips, alike[[far.argmin()]])
    return trip.model_copy(update={"trip_id": "typical"})


def arrays(trips: Sequence[TripRequest], zone: ZoneInfo) -> Inputs:
    """Trips as the graph's inputs, made by the contract's row form as serving makes them."""
    made = model_inputs(trips, zone)
    return {item.name: np.asarray(made[item.name], dtype=item.dtype) for item in MODEL_INPUTS}


def scope(trips: Trips) -> Scope:
    """What the training trips span: the target domain."""
    zones = np.union1d(trips.inputs["pickup_zone"], trips.inputs["dropoff_zone"])
    km = trips.inputs["distance_km"]  # rounded to float32: the shortest trip itself may be shorter than its number here
    return Scope(
        zones=zones.tolist(),
        vehicles=[VEHICLES[number] for number in np.unique(trips.inputs["vehicle"])],
        min_distance_km=float(np.nextafter(km.min(), np.float32(0))),
        max_distance_km=float(np.nextafter(km.max(), np.float32(np.inf))),
        hours=np.unique(trips.inputs["minute_of_week"] // 60).tolist(),
    )


def _numbers(bundles: Path) -> list[int]:
    names = [path.name.removeprefix("v").split("-")[0] for path in bundles.glob("v*-*")]
    return [int(name) for name in names if name.isdigit()]
