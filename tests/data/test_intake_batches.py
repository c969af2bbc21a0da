"""Batch rules: miles in the km column are seen on thirty rows; calm batches pass."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from contracts.requirements import load
from data.batch_rules import ZoneReference
from data.city.reference import City
from data.history import LIVE_START, simulate
from data.intake import ROW, Intake, Verdict
from data.worker import city_zones

SEED, LIMIT, KM_PER_MILE = 7, load()["route-ratio"], 1.609
ROWS = 30  # what a quarter of an hour brings


@pytest.fixture(scope="module")
def calm() -> pl.DataFrame:
    """Booked trips of four calm weeks, in order of their end."""
    trips = simulate(City(SEED), LIVE_START - timedelta(weeks=4), LIVE_START)
    return trips.sort("ended_at", "trip_id")


@pytest.fixture(scope="module")
def reference(calm: pl.DataFrame) -> ZoneReference:
    """The reference as the worker learns it, from the first thousand trips."""
    return ZoneReference(tuple(city_zones(SEED))).learn(calm.head(1000))


def refused_share(trips: pl.DataFrame, reference: ZoneReference, rows: int) -> float:
    batches = [trips.slice(start, rows) for start in range(0, trips.height - rows + 1, rows)]
    return sum(reference.fault(batch, LIMIT) is not None for batch in batches) / len(batches)


def in_miles(trips: pl.DataFrame) -> pl.DataFrame:
    return trips.with_columns((pl.col("distance_km") / KM_PER_MILE).round(3))


def judge(trips: pl.DataFrame, reference: ZoneReference) -> Verdict:
    intake = Intake(reference, LIMIT, datetime(2026, 6, 2, tzinfo=UTC))
    return intake.judge_frame("batch-1", trips.with_row_index(ROW), lambda number: trips.row(number, named=True))


@pytest.mark.slow
def test_under_one_in_a_thousand_calm_batches_is_refused_and_every_batch_in_miles(calm, reference):
    assert calm.height // ROWS > 1500
    assert refused_share(calm, reference, ROWS) < 0.001
    assert refused_share(in_miles(calm.head(9000)), reference, ROWS) == 1.0


@pytest.mark.slow
def test_the_few_trips_of_a_quiet_hour_pass_too(calm, reference):
    assert refused_share(calm.tail(6000), reference, 4) <= 0.001
    assert refused_share(in_miles(calm.tail(2000)), reference, 4) > 0.99


def test_a_batch_half_in_miles_is_refused_though_its_median_may_read_well(calm, reference):
    half = pl.concat([calm.head(4000), in_miles(calm.slice(4000, 4000))]).sample(fraction=1.0, shuffle=True, seed=1)

    assert refused_share(half, reference, ROWS) > 0.95


def test_before_anything_is_learned_no_route_may_be_shorter_than_the_straight_line(calm):
    unlearned = ZoneReference(tuple(city_zones(SEED)))

    assert refused_share(calm.head(9000), unlearned, ROWS) == 0.0
    assert refused_share(in_miles(calm.head(9000)), unlearned, ROWS) == 1.0


def test_a_refused_batch_is_quarantined_whole_and_says_why(calm, reference):
    broken = calm.head(ROWS).with_row_index().with_columns(
        p10_min=pl.when(pl.col("index") == 3).then(2000.0).otherwise("p10_min")
    )  # fmt: skip
    verdict = judge(in_miles(broken.drop("index")), reference)

    assert verdict.event_type == "batch.quarantined"
    assert verdict.accepted.height == 0
    assert verdict.judged.reasons == {"route-ratio": ROWS - 1, "estimate_crosses": 1}
    assert "lower quartile" in verdict.judged.detail or "median" in verdict.judged.detail
    assert verdict.judged.first_requested_at == calm.head(ROWS)["requested_at"].min()
    assert verdict.refused[-1].value == pytest.approx(1 / KM_PER_MILE, abs=0.05)


def test_what_was_learned_is_kept(calm, reference, tmp_path):
    reference.save(tmp_path / "var" / "zone_reference.json")
    fresh = ZoneReference(reference.zones)

    assert fresh.kept(tmp_path / "nowhere.json").detour is None
    assert fresh.kept(tmp_path / "var" / "zone_reference.json") == reference
