"""The requests that bursts send, as bytes on the wire: trips that a bundle has in scope, each with an id of its own."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from contracts.bundle import Manifest
from contracts.estimates import EstimatesRequest
from contracts.trips import MODEL_INPUTS, TripRequest, model_inputs

VARIANTS = 300  # different requests, sent in turn
MONDAY = datetime(2026, 6, 1)  # noqa: DTZ001  city time, whose zone the manifest names
DATATYPES = {"int64": "INT64", "float32": "FP32"}  # of the Open Inference Protocol


def trips(manifest: Manifest, count: int, seed: int = 1) -> list[TripRequest]:
    """Trips in the scope of a bundle, all fields given, spread over a week, its zones and distances."""
    rng, scope, zone = random.Random(seed), manifest.scope, ZoneInfo(manifest.time_zone)
    hours = scope.hours or range(168)
    return [
        TripRequest(
            trip_id=f"benchmark-{seed}-{number}",
            requested_at=(MONDAY + timedelta(hours=rng.choice(hours), minutes=rng.randrange(60))).replace(tzinfo=zone),
            pickup_zone=rng.choice(scope.zones),
            dropoff_zone=rng.choice(scope.zones),
            distance_km=round(rng.uniform(scope.min_distance_km + 0.1, min(scope.max_distance_km, 12) - 0.1), 2),
            vehicle=rng.choice(scope.vehicles),
            parcel_kg=round(rng.uniform(0.2, 9), 1),
            rain_mm_h=round(rng.uniform(0, 2), 1),
            temperature_c=round(rng.uniform(5, 25), 1),
            city_pace=round(rng.uniform(0.9, 1.6), 2),
        )
        for number in range(count)
    ]


def estimates(asked: Sequence[TripRequest], each: int = 1) -> list[str]:
    """Requests for estimates as product sends them, `each` trips in one."""
    return [
        post(
            "/v1/estimates", EstimatesRequest(trips=asked[first : first + each]).model_dump_json(exclude_defaults=True)
        )
        for first in range(0, len(asked), each)
    ]


def columns(trip: TripRequest, zone: ZoneInfo) -> str:
    """The graph's inputs of one trip, as a JSON object of lists by name."""
    found = model_inputs([trip], zone)
    return json.dumps({item.name: list(found[item.name]) for item in MODEL_INPUTS})


def tensors(trip: TripRequest, zone: ZoneInfo) -> str:
    """The same as the Open Inference Protocol puts it."""
    found = model_inputs([trip], zone)
    inputs = [
        {"name": item.name, "shape": [1], "datatype": DATATYPES[item.dtype], "data": list(found[item.name])}
        for item in MODEL_INPUTS
    ]
    return json.dumps({"inputs": inputs})


def post(path: str, body: str, token: str = "") -> str:
    """A whole request, with the headers that httpx sends; with a token where it needs one."""
    allowed = f"Authorization: Bearer {token}\r\n" if token else ""
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate\r\n"
        f"Connection: keep-alive\r\nUser-Agent: python-httpx/0.28.1\r\nContent-Type: application/json\r\n"
        f"{allowed}Content-Length: {len(body)}\r\n\r\n{body}"
    )
