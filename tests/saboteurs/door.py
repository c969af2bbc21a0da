"""Checks at data's door: a day of the reference city through the real intake, batch by batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cache

import polars as pl

from contracts import requirements
from contracts.measurements import Measurement
from data.batch_rules import ZoneReference
from data.city.reference import City
from data.history import LIVE_START, simulate
from data.intake import ROW, Intake
from data.worker import city_zones
from tests.saboteurs.faults import Saboteur, measured, spoiler

KINDS = ("intake",)
RECORD = requirements.load()
LIMIT = RECORD["route-ratio"]
SEED, LEARNT_FROM, ROWS = 7, 1000, 30


@dataclass
class Delivery:
    """What a producer sends, after `send` had its way with it."""

    send: Callable[[pl.DataFrame], pl.DataFrame] = lambda trips: trips


def miles(delivery: Delivery) -> None:
    """A producer starts to send miles in the km column: only the numbers change."""
    delivery.send = lambda trips: trips.with_columns((pl.col("distance_km") / 1.609).round(3))


SABOTEURS: dict[str, Saboteur[Delivery]] = {"miles": Saboteur("route-ratio", miles)}


@cache
def _days() -> pl.DataFrame:
    return simulate(City(SEED), LIVE_START - timedelta(days=2), LIVE_START).sort("ended_at", "trip_id")


def profile(saboteur: str | None) -> list[Measurement]:
    """Judge a day's batches against what was learnt from the trips before; the ratio of the one farthest from it."""
    delivery = Delivery()
    spoiler(SABOTEURS, saboteur)(delivery)
    reference = ZoneReference(tuple(city_zones(SEED))).learn(_days().head(LEARNT_FROM))
    sent = delivery.send(_days().slice(LEARNT_FROM))
    intake = Intake(reference, LIMIT, LIVE_START)
    ratios, refused = [], 0
    for start in range(0, sent.height - ROWS + 1, ROWS):
        batch = sent.slice(start, ROWS)
        verdict = intake.judge_frame(
            f"b{start}", batch.with_row_index(ROW), lambda row, b=batch: b.row(row, named=True)
        )
        ratios.append(verdict.ratio)
        refused += LIMIT.id in verdict.judged.reasons
    farthest = max(ratios, key=lambda ratio: abs(math.log(ratio)))
    note = f"{refused} of {len(ratios)} batches refused; the one farthest from the reference"
    return measured(RECORD, "intake", [(LIMIT.id, farthest, refused == 0, note)])
