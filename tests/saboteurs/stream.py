"""Checks on the stream: monitors and the retraining policy, over recorded feeds served on a real socket."""

from __future__ import annotations

import math
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

from chassis.sql import reading
from contracts import requirements
from contracts.measurements import Measurement
from contracts.snapshots import BatchJudged
from contracts.trips import CompletedTrip
from monitoring.pages import newest_view
from tests.monitoring.desk import Desk
from tests.monitoring.recorded import LIVE, ZONES, Feeds, RecordedCity, with_champion
from tests.saboteurs.faults import Saboteur, measured, spoiler

KINDS = ("monitor", "policy")
RECORD = requirements.load()
CALM_H, CHANGED_H = 12.0, 14.5
Recorded = list[tuple]  # (instant, feed, draft)


@dataclass
class Stream:
    """Two recorded cities: a calm one for the monitors, one whose bridge closes for the policy. Events pass `edits`."""

    calm: RecordedCity = field(default_factory=lambda: RecordedCity(seed=21, per_minute=4))
    edits: list[Callable[[Recorded], Recorded]] = field(default_factory=list)
    before_each_round: Callable[[Path], None] = lambda _database: None
    away_s: float = 0.0  # wall seconds for which the feeds' server is gone at the end


def short_promises(stream: Stream) -> None:
    """The promise shown to customers is the median instead of p90."""

    def edit(events: Recorded) -> Recorded:
        for at, feed, draft in events:
            data = draft.data
            if draft.type == "trip.booked":
                data = data.model_copy(update={"promised_by": at + (data.promised_by - at) * 0.63})
            yield at, feed, replace(draft, data=data)

    stream.edits.append(edit)


def bridge_closed(stream: Stream) -> None:
    """A bridge closes and nobody tells the model."""
    stream.calm.bridge_closed_h = 0


def narrow_below(stream: Stream) -> None:
    """A p10 far too near the median: every third trip is quicker."""
    _edit_quantiles(stream, lambda q: q.model_copy(update={"p10_min": q.p10_min + 0.6 * (q.p50_min - q.p10_min)}))


def one_district_slows(stream: Stream) -> None:
    """Trips from one zone group take a quarter longer, all others a little less, and nobody tells the model."""

    def edit(events: Recorded) -> Recorded:
        for at, feed, draft in events:
            data = draft.data
            if isinstance(data, CompletedTrip):
                took = (data.ended_at - data.booked_at) * (1.26 if ZONES[data.pickup_zone] == "hills" else 0.96)
                minutes = took / timedelta(minutes=1) if data.duration_min else None
                data = data.model_copy(update={"ended_at": data.booked_at + took, "duration_min": minutes})
                yield data.ended_at, feed, replace(draft, data=data, time=data.ended_at)
            else:
                yield at, feed, draft

    stream.edits.append(edit)


def dropped_estimates(stream: Stream) -> None:
    """Serving loses one estimate in twenty before it is logged."""
    stream.calm.lost_estimates = 0.05


def frozen_feed(stream: Stream) -> None:
    """The server of the feeds is gone."""
    stream.away_s = RECORD["feed-freshness"].ceiling + 1


def miles_in_batches(stream: Stream) -> None:
    """A producer sends miles in the km column during the last hours."""
    stream.calm.miles_h = CALM_H - 3


def weather_outage(stream: Stream) -> None:
    """The weather feed is down: batches arrive without rain."""

    def edit(events: Recorded) -> Recorded:
        for at, feed, draft in events:
            if isinstance(draft.data, BatchJudged):
                missing = draft.data.model_copy(update={"missing_share": {"rain_mm_h": 0.97}})
                yield at, feed, replace(draft, data=missing)
            else:
                yield at, feed, draft

    stream.edits.append(edit)


def ghost_outcomes(stream: Stream) -> None:
    """Monitoring's database holds every delivered trip three times."""

    def haunt(database: Path) -> None:
        with sqlite3.connect(database) as db:
            columns = [row[1] for row in db.execute("PRAGMA table_info(trips)")]
            rest = ", ".join(columns[1:])
            for ghost in ("-g1", "-g2"):
                db.execute(
                    f"INSERT OR IGNORE INTO trips (trip_id, {rest}) SELECT trip_id || '{ghost}', {rest} FROM trips "
                    "WHERE outcome = 'delivered' AND trip_id NOT LIKE '%-g_'"
                )

    stream.before_each_round = haunt


SABOTEURS: dict[str, Saboteur[Stream]] = {
    "short-promises": Saboteur("late-promises", short_promises),
    "bridge-closed": Saboteur(
        "coverage-p90", bridge_closed, frozenset({"coverage-band", "group-coverage-p90", "late-promises"})
    ),
    "narrow-below": Saboteur("coverage-band", narrow_below),
    "one-district-slows": Saboteur("group-coverage-p90", one_district_slows),
    "dropped-estimates": Saboteur("outcome-join", dropped_estimates),
    "frozen-feed": Saboteur("feed-freshness", frozen_feed, outlasts_a_limit=True),
    "miles-in-batches": Saboteur("quarantine-share", miles_in_batches),
    "weather-outage": Saboteur("missing-share", weather_outage),
    "ghost-outcomes": Saboteur("retrain-outcomes", ghost_outcomes),
}


def profile(saboteur: str | None) -> list[Measurement]:
    """Run both cities through a real monitor; what it shows of each requirement, and when it would retrain."""
    stream = Stream()
    spoiler(SABOTEURS, saboteur)(stream)
    with tempfile.TemporaryDirectory() as folder:
        return _monitors(stream, Path(folder)) + _policy(stream, Path(folder))


def _monitors(stream: Stream, folder: Path) -> list[Measurement]:
    with _desk(stream, folder / "calm.db", stream.calm, CALM_H) as (desk, _):
        pass
    if stream.away_s:
        time.sleep(stream.away_s)
        desk.monitor.round()
    with reading(desk.engine) as tx:
        view = newest_view(tx, RECORD, max(desk.monitor.freshness().values()))
    assert view is not None
    return measured(
        RECORD,
        "monitor",
        (
            (line.requirement.id, line.measured, line.colour == "green", line.note)
            for line in view.lines
            if line.colour != "not enough truth"
        ),
    )


def _policy(stream: Stream, folder: Path) -> list[Measurement]:
    """Outcomes known when a retraining was ordered, counted from the feed itself."""
    limit = RECORD["retrain-outcomes"]
    changed = RecordedCity(seed=6, per_minute=3, bridge_closed_h=3, slowdown=1.5)
    with _desk(stream, folder / "changed.db", changed, CHANGED_H) as (desk, events):
        retrain = next((decision for decision in desk.decisions() if decision.kind == "retrain"), None)
    if retrain is None:
        return measured(RECORD, "policy", [(limit.id, math.nan, False, "no retraining was ordered")])
    known = sum(
        isinstance(draft.data, CompletedTrip)
        and draft.type == "trip.delivered"
        and draft.data.requested_at >= retrain.change_at
        and draft.data.ended_at <= retrain.at
        for _, _, draft in events
    )
    return measured(RECORD, "policy", [(limit.id, known, limit.passes(known), f"ordered at {retrain.at:%H:%M}")])


def _edit_quantiles(stream: Stream, change: Callable) -> None:
    def edit(events: Recorded) -> Recorded:
        for at, feed, draft in events:
            if draft.type == "estimate.answered":
                answers = [item.model_copy(update={"quantiles": change(item.quantiles)}) for item in draft.data.answers]
                yield at, feed, replace(draft, data=draft.data.model_copy(update={"answers": answers}))
            else:
                yield at, feed, draft

    stream.edits.append(edit)


@contextmanager
def _desk(stream: Stream, database: Path, city: RecordedCity, hours: float) -> Iterator[tuple[Desk, Recorded]]:
    """A monitor that has followed a city for some hours; its feeds are served until leaving."""
    events = with_champion() + city.events(hours)
    for edit in stream.edits:
        events = list(edit(events))
    feeds = Feeds(database.with_name(f"feeds-{database.name}"), events)
    with feeds.served() as url:
        feeds.publish(LIVE)
        desk = Desk(url, feeds, f"sqlite:///{database}")
        for _ in range(math.ceil(hours)):
            stream.before_each_round(database)
            desk.run(1)
        yield desk, events
