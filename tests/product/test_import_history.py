"""History becomes the start of the trips feed, once and whole, or not at all."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from rich.progress import Progress

from chassis.databases import open_database
from contracts.trips import CompletedTrip
from product.fallback import FallbackTable
from product.import_history import CannotImport, import_history
from product.ledger import Ledger
from product.tables import METADATA
from tests.product.test_fallback import a_trip

BERLIN = ZoneInfo("Europe/Berlin")
START = datetime(2026, 4, 6, 5, tzinfo=UTC)


def a_line(number: int, outcome: str = "delivered") -> str:
    asked = START + timedelta(minutes=number)
    row = CompletedTrip(
        trip_id=f"h{number}",
        requested_at=asked,
        pickup_zone=101,
        dropoff_zone=102,
        distance_km=3.5,
        vehicle="bike",
        booked_at=asked,
        ended_at=asked + timedelta(minutes=21),
        outcome=outcome,
        duration_min=21 if outcome == "delivered" else None,
        source="fallback",
        p10_min=10,
        p50_min=20,
        p90_min=30,
        promised_by=asked + timedelta(minutes=30),
    )
    envelope = {
        "source": "/tandem/trips",
        "type": f"trip.{outcome}",
        "time": row.ended_at.isoformat(),
        "subject": row.trip_id,
        "datacontenttype": "application/json",
    }
    tail = json.dumps(envelope)[1:-1]
    return f'{{"specversion":"1.0","id":"{number}",{tail},"data":{row.model_dump_json()}}}'


@pytest.fixture
def ledger(tmp_path):
    return Ledger(open_database(f"sqlite:///{tmp_path}/product.db", METADATA), BERLIN)


def written(tmp_path, lines: list[str], name: str = "history.jsonl"):
    path = tmp_path / name
    path.write_text("\n".join(lines) + "\n")
    return path


def imported(path, ledger) -> int | None:
    with Progress(disable=True) as progress:
        return import_history(path, ledger, progress)


def test_every_line_becomes_the_event_of_its_number_unchanged(tmp_path, ledger):
    lines = [a_line(number, "lost" if number % 10 == 0 else "delivered") for number in range(1, 12_001)]

    assert imported(written(tmp_path, lines), ledger) == 12_000
    assert ledger.trips_feed.read(after=0, limit=20_000) == lines
    assert len(ledger.past_outcomes()) == 10_800


def test_the_fallback_learns_from_it(tmp_path, ledger):
    imported(written(tmp_path, [a_line(number) for number in range(1, 61)]), ledger)

    table = FallbackTable.of(ledger.past_outcomes())
    assert table.estimate(a_trip(km=3.5), BERLIN).p50_min == 21


def test_importing_it_again_is_no_fault_and_changes_nothing(tmp_path, ledger):
    path = written(tmp_path, [a_line(1), a_line(2)])
    imported(path, ledger)

    assert imported(path, ledger) is None
    assert ledger.trips_feed.last_id() == 2


def test_a_feed_that_has_events_is_refused(tmp_path, ledger):
    imported(written(tmp_path, [a_line(1)]), ledger)

    with pytest.raises(CannotImport, match="has 1 events already"):
        imported(written(tmp_path, [a_line(1), a_line(2)], "other.jsonl"), ledger)


@pytest.mark.parametrize(
    ("second", "says"),
    [
        (a_line(3), 'line 2 must start with {"specversion":"1.0","id":"2"'),
        (a_line(2).replace('"duration_min":21.0', '"duration_min":-1'), "line 2: data.duration_min"),
        (a_line(2).replace("trip.delivered", "trip.booked"), "line 2: type"),
        (a_line(2)[:-9], "line 2: "),
    ],
)
def test_one_bad_line_and_nothing_is_imported(tmp_path, ledger, second, says):
    with pytest.raises(CannotImport) as refusal:
        imported(written(tmp_path, [a_line(1), second]), ledger)

    assert says in str(refusal.value)
    assert (ledger.trips_feed.last_id(), ledger.past_outcomes()) == (0, [])
