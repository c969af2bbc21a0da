"""History: the trips of a simulated past as contract rows and as the events product imports."""

from __future__ import annotations

import json
from datetime import UTC, timedelta

import numpy as np
import polars as pl
import pytest

from contracts import requirements, tables
from contracts.feeds import TRIP_ENDS, Event, payload
from contracts.trips import CompletedTrip, minutes_between
from data.city.reference import City
from data.city.times import minutes_at
from data.history import LIVE_START, ended_before, events, main, simulate

START = LIVE_START - timedelta(weeks=1)


@pytest.fixture(scope="module")
def trips() -> pl.DataFrame:
    return simulate(City(5), START, LIVE_START)


def test_rows_keep_the_contract(trips):
    assert dict(trips.schema) == tables.dtypes()
    tables.schema().validate(trips)
    for row in trips.sample(200, seed=1).iter_rows(named=True):
        CompletedTrip(**row)
    assert trips["trip_id"].is_unique().all()


def test_some_14_000_trips_a_week_most_customers_patient_enough(trips):
    wishes = City(5).demand.during(minutes_at(START), minutes_at(LIVE_START))

    assert 12_000 < trips.height < 16_500
    assert 0.5 < trips.height / len(wishes.at) < 0.65


def test_times_and_label_fit_together(trips):
    delivered = trips.filter(pl.col("outcome") == "delivered")

    for row in delivered.sample(500, seed=2).iter_rows(named=True):
        assert row["duration_min"] == minutes_between(row["booked_at"], row["ended_at"])
        assert row["requested_at"] < row["booked_at"] < row["picked_up_at"] < row["ended_at"]
    rest = trips.filter(pl.col("outcome") != "delivered")
    assert rest["duration_min"].is_null().all()
    assert 0.01 < rest.height / trips.height < 0.04


def test_customers_were_shown_a_fallback_that_mostly_holds(trips):
    delivered = trips.filter(pl.col("outcome") == "delivered")
    promised = (trips["promised_by"] - trips["booked_at"]).dt.total_seconds() / 60

    assert (trips["source"] == "fallback").all()
    assert trips["estimate_id"].null_count() == trips.height
    assert trips.filter(~pl.col("p10_min").lt(pl.col("p50_min")) | ~pl.col("p50_min").lt(pl.col("p90_min"))).is_empty()
    assert (promised - trips["p90_min"]).abs().max() < 0.02
    assert 0.85 < (delivered["duration_min"] <= delivered["p90_min"]).mean() < 0.93


@pytest.mark.slow
def test_the_same_seed_tells_the_same_past_and_another_another(trips):
    assert simulate(City(5), START, LIVE_START).equals(trips)
    assert not simulate(City(6), START, LIVE_START).equals(trips)


def test_history_ends_where_the_clock_starts_and_holds_no_half_of_a_cohort(trips):
    past = ended_before(trips, LIVE_START)
    end = LIVE_START.astimezone(UTC)
    closing = timedelta(minutes=requirements.load().policy.closing_min)
    young = (trips["requested_at"] >= end - closing) & (trips["ended_at"] < end)

    assert past["ended_at"].max() < end
    assert past["requested_at"].max() < end - closing
    assert past["ended_at"].is_sorted()
    assert young.sum() > 0  # quick ones, which would make the last hours look quick
    assert past.height > 0.98 * trips.height


def test_each_line_is_the_trip_s_last_event_in_the_feed_s_envelope(trips):
    past = ended_before(trips, LIVE_START).head(3000)
    lines = events(past).to_list()

    for number, (line, row) in enumerate(zip(lines, past.iter_rows(named=True), strict=True), start=1):
        assert line.startswith(f'{{"specversion":"1.0","id":"{number}",')
        if number % 10 == 0 or row["outcome"] != "delivered":
            event = Event.model_validate_json(line)
            assert event.type in TRIP_ENDS
            assert event.type == f"trip.{row['outcome']}"
            assert (event.source, event.subject, event.time) == ("/tandem/trips", row["trip_id"], row["ended_at"])
            assert payload(event) == CompletedTrip(**row)
            assert list(event.data) == list(CompletedTrip.model_fields)
    assert {json.loads(line)["type"] for line in lines} == set(TRIP_ENDS)


def test_the_command_writes_the_file_whole_with_an_incident_in_it(tmp_path):
    calm, closed = tmp_path / "calm.jsonl", tmp_path / "closed.jsonl"
    main(["--weeks", "1", "--out", str(calm), "--seed", "5"])
    main(["--weeks", "1", "--out", str(closed), "--seed", "5", "--incident", "bridge-closed", "--at", str(START)])

    def mean_min(path) -> float:
        rows = [json.loads(line)["data"]["duration_min"] for line in path.read_text().splitlines()]
        return float(np.mean([minutes for minutes in rows if minutes is not None]))

    assert mean_min(closed) > 1.05 * mean_min(calm)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["calm.jsonl", "closed.jsonl"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--incident", "miles"], "go together"),
        (["--incident", "miles", "--at", "2026-05-20T08:00"], "needs an offset"),
        (["--incident", "flood", "--at", "2026-05-20T08:00+02:00"], "no incident 'flood'"),
        (["--weeks", "400"], "before the city's first instant"),
    ],
)
def test_the_command_says_what_is_wrong_and_writes_nothing(tmp_path, capsys, arguments, said):
    with pytest.raises(SystemExit) as ended:
        main(["--out", str(tmp_path / "history.jsonl"), *arguments])

    assert said in f"{ended.value}{capsys.readouterr().err}"
    assert list(tmp_path.iterdir()) == []
