"""Whole loops over recorded feeds and real sockets: what is decided, when, and that a restart changes nothing."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from chassis.problems import ProblemError
from chassis.sql import reading
from contracts import requirements
from contracts.decisions import KINDS
from contracts.estimates import Rollout
from monitoring.ledger import ESTIMATES, QUOTES_KEPT, TICKS, TRIPS, instant, past_outcomes
from monitoring.pages import newest_view
from monitoring.replay import differences
from tests.monitoring.desk import Desk
from tests.monitoring.recorded import (
    LIVE,
    Feeds,
    RecordedCity,
    history,
    refusal,
    release,
    rollout,
    snapshot,
    with_champion,
)
from tests.postgres import postgres

RECORD = requirements.load()


@pytest.fixture
def desk(tmp_path, request):
    """Call it with events to get a `Desk`."""
    contexts = []

    def open_desk(events, **settings) -> Desk:
        feeds = Feeds(tmp_path / f"feeds{len(contexts)}.db", events)
        context = feeds.served()
        url = context.__enter__()
        contexts.append(context)
        feeds.publish(LIVE)
        database = settings.pop("database", f"sqlite:///{tmp_path}/monitoring{len(contexts)}.db")
        return Desk(url, feeds, database, **settings)

    yield open_desk
    for context in contexts:
        context.__exit__(None, None, None)


def kinds(desk: Desk) -> list[str]:
    """Decisions as announced, in order."""
    return [decision.kind for decision in desk.decisions()]


def test_the_first_tick_comes_at_once_and_asks_for_a_first_model(desk):
    desk = desk([snapshot(LIVE - timedelta(hours=1)), *history(ends=1_200)])
    desk.monitor.round()

    assert len(desk.ticks()) == 1
    assert desk.ticks()[0]["at"] == LIVE.timestamp()
    (decision,) = desk.decisions()
    assert (decision.kind, decision.reasons, decision.change_at) == ("retrain", ["no champion yet"], None)
    assert decision.figures == {"outcomes": 1_200}


def test_without_enough_history_it_waits_for_outcomes(desk):
    desk = desk(history(ends=400))
    desk.monitor.round()

    (decision,) = desk.decisions()
    assert decision.kind == "watch"
    assert decision.reasons == ["no champion yet", "400 of 1000 outcomes"]


def test_a_retraining_is_ordered_once_and_again_only_after_it_was_refused(desk):
    desk = desk([*history(ends=1_200), *RecordedCity(seed=2, per_minute=0.3).events(9)])
    desk.monitor.round()
    (order,) = desk.decisions()

    desk.run(2)
    assert kinds(desk) == ["retrain", "watch"]
    assert f"retraining {order.decision_id} runs" in desk.decisions()[-1].reasons

    desk.feeds.add(refusal(desk.clock.at + timedelta(minutes=1), order.decision_id, "gate: coverage-p90"))
    desk.run(1)
    assert kinds(desk) == ["retrain", "watch"]
    desk.run(2)
    assert kinds(desk) == ["retrain", "watch", "retrain", "watch"]

    again = desk.decisions()[2]
    desk.feeds.add(release(desk.clock.at + timedelta(minutes=1), "v1", again.decision_id))
    desk.run(3)
    assert kinds(desk) == ["retrain", "watch", "retrain", "watch"]  # released, not yet taken: no third order


def test_a_calm_day_asks_for_nothing_and_loses_no_trip(desk):
    events = with_champion() + RecordedCity(seed=5, per_minute=1.5).events(14)
    desk = desk(events)
    desk.run(14)

    assert kinds(desk) == ["nothing"]
    assert len(desk.ticks()) == 14 * 4 + 1
    counted = [json.loads(tick["figures"]) for tick in desk.ticks()]
    last_booking = LIVE + timedelta(hours=14) - timedelta(minutes=RECORD.policy.closing_min)
    booked = [e for _, _, e in events if e.type == "trip.booked" and e.time < last_booking]
    assert sum(one["booked"] for one in counted) == len(booked) > 800
    assert sum(one[end] for one in counted for end in ("delivered", "cancelled", "lost", "open")) == len(booked)
    assert all(sum(one[end] for one in counted) > 0 for end in ("cancelled", "lost", "audit", "fallback"))


def test_who_books_late_in_a_quotes_life_is_judged_like_everybody_else(desk):
    """Each trip has the whole closing time from its booking on: of late bookings the slow ones would be missing."""
    events = with_champion() + RecordedCity(seed=12, per_minute=1, longest_thought_min=240).events(14)
    desk = desk(events)
    desk.run(14)

    last_booking = LIVE + timedelta(hours=14) - timedelta(minutes=RECORD.policy.closing_min)
    booked = [
        draft.data for _, _, draft in events if draft.type == "trip.booked" and draft.data.booked_at < last_booking
    ]
    delivered = {draft.subject: draft.time for _, _, draft in events if draft.type == "trip.delivered"}
    late = [delivered[trip.trip_id] > trip.promised_by for trip in booked if trip.trip_id in delivered]
    counted = [json.loads(tick["figures"]) for tick in desk.ticks()]
    assert sum(one["booked"] for one in counted) == len(booked) > 400
    assert sum(one["late"] for one in counted) == pytest.approx(sum(late), abs=2)  # nearly all have ended by then
    assert sum(late) > 30


def test_a_feed_that_comes_back_after_its_cohorts_closed_loses_no_trip(desk):
    events = with_champion() + RecordedCity(seed=13, per_minute=0.5).events(10)
    desk = desk(events)
    desk.run(3)
    desk.run(5, frozen=frozenset({"trips"}))
    desk.run(2)

    delivered = sum(draft.type == "trip.delivered" for _, _, draft in events)
    judged = sum(json.loads(tick["figures"])["delivered"] for tick in desk.ticks())
    with reading(desk.engine) as tx:
        working = sum(row.outcome == "delivered" for row in tx.execute(select(TRIPS)))
        assert judged + past_outcomes(tx, desk.clock.at) + working == delivered > 200


def test_a_quote_is_kept_for_as_long_as_it_can_be_booked_and_no_longer(desk):
    desk = desk(with_champion() + RecordedCity(seed=14, per_minute=0.3).events(14))
    desk.run(14)
    with reading(desk.engine) as tx:
        quotes = [row.requested for row in tx.execute(select(TRIPS)) if row.booked is None]
        estimates = [row.requested for row in tx.execute(select(ESTIMATES))]
    closed = desk.clock.at - timedelta(minutes=RECORD.policy.closing_min)
    for kept in (quotes, estimates):
        assert timedelta(0) <= instant(min(kept)) - (closed - QUOTES_KEPT) < timedelta(hours=1)


def test_bridge_closed_is_watched_then_answered_with_a_retraining_from_its_start(desk):
    desk = desk(with_champion() + RecordedCity(seed=6, per_minute=3, bridge_closed_h=3, slowdown=1.5).events(14.5))
    desk.run(14.5)
    closed = LIVE + timedelta(hours=3)

    assert kinds(desk) == ["nothing", "watch", "retrain", "watch"]
    _, watch, retrain, _ = desk.decisions()
    assert timedelta(hours=2) < watch.at - closed < timedelta(hours=8)
    assert any("of 1000 outcomes since the change" in reason for reason in watch.reasons)
    assert abs(retrain.change_at - closed) < timedelta(hours=2)
    assert "coverage-p90" in retrain.requirement_ids
    assert {rejected.kind for rejected in retrain.rejected} == set(KINDS) - {"retrain"}
    assert retrain.evidence_digest == next(tick["digest"] for tick in desk.ticks() if tick["kind"] == "retrain")


def test_miles_ends_in_data_broken_and_never_in_a_retraining(desk):
    desk = desk(with_champion() + RecordedCity(seed=7, per_minute=1.5, miles_h=3, miles_end_h=6).events(16))
    desk.run(16)

    assert "retrain" not in kinds(desk)
    assert kinds(desk)[:2] == ["nothing", "data_broken"]
    broken = desk.decisions()[1]
    assert "quarantine-share" in broken.requirement_ids
    assert broken.at - LIVE < timedelta(hours=4.5)  # well before a cohort in miles closes
    assert kinds(desk)[2] == "nothing"  # it lifts, and the quarantined trips have moved no detector
    lifted = desk.decisions()[2].at - LIVE
    assert timedelta(hours=7) < lifted < timedelta(hours=11)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("knows", "noise", "kind"), [(1.0, 0.0, "promote"), (0.0, 0.3, "drop_challenger")], ids=["better", "worse"]
)
def test_a_challenger_is_promoted_or_dropped_on_the_same_trips(desk, knows, noise, kind):
    entered = LIVE + timedelta(hours=2)
    city = RecordedCity(
        seed=8,
        per_minute=2.5,
        bridge_closed_h=0,
        slowdown=1.6,
        challenger="v2",
        challenger_from_h=2,
        challenger_knows_bridge=knows,
        challenger_noise=noise,
    )
    both = Rollout(champion="v1", challenger="v2")
    desk = desk(
        [*with_champion(), release(entered, "v2"), rollout(entered, Rollout(champion="v1"), both), *city.events(13)]
    )
    desk.run(13)

    verdict = next(decision for decision in desk.decisions() if decision.kind not in ("nothing", "watch"))
    assert (verdict.kind, verdict.target) == (kind, "v2")
    with reading(desk.engine) as tx:
        evidence = newest_view(tx, RECORD).evidence
    assert evidence.challenger.since == entered
    assert evidence.challenger.pairs >= RECORD.policy.least_pairs


@pytest.mark.slow
@pytest.mark.parametrize("feed", ["trips", "estimates"])
def test_a_frozen_feed_is_data_broken_not_silence(desk, feed):
    desk = desk(with_champion() + RecordedCity(seed=9, per_minute=1).events(9))
    desk.run(4)
    desk.run(5, frozen=frozenset({feed}))

    assert kinds(desk) == ["nothing", "data_broken"]
    assert desk.decisions()[1].requirement_ids == [{"trips": "feed-freshness", "estimates": "outcome-join"}[feed]]
    # Trips that ended behind a feed that stands still are unknown, not late.
    counts = [json.loads(tick["figures"])["versions"].get("v1", {}).get("") for tick in desk.ticks()[-20:]]
    assert all(one["above"] <= 0.4 * one["of"] for one in counts if one and one["of"] >= 10)


@pytest.mark.slow
def test_a_feed_that_is_away_holds_cohorts_open_and_then_is_a_fault(desk):
    limit = 2.0
    freshness = RECORD["feed-freshness"].model_copy(update={"at_most": limit})
    others = [item for item in RECORD.all() if item.id != freshness.id]
    desk = desk(
        with_champion() + RecordedCity(seed=9, per_minute=1).events(8),
        record=RECORD.model_copy(update={"requirement": [*others, freshness]}),
    )
    desk.run(3)
    ticks = len(desk.ticks())
    rollouts = desk.monitor.followers[2]
    rollouts.url, there = f"{desk.url}/feeds/gone", rollouts.url

    desk.run(1)
    assert len(desk.ticks()) == ticks  # held: the clock has passed what we know

    rollouts.last_answer -= limit
    desk.run(1)
    assert len(desk.ticks()) == ticks + 8
    assert kinds(desk)[-1] == "data_broken"
    assert "feed rollout has not answered" in desk.decisions()[-1].reasons[0]

    rollouts.url = there
    desk.run(2)
    assert kinds(desk)[-1] == "nothing"


@pytest.mark.slow
def test_a_restart_and_another_rhythm_give_the_same_ticks(desk):
    """Nothing is judged twice or skipped: alarms, comparisons and clean cohorts survive, whenever monitoring looks."""
    entered = LIVE + timedelta(hours=5)
    city = RecordedCity(
        seed=10,
        per_minute=1,
        bridge_closed_h=1,
        slowdown=2.2,
        miles_h=8,
        miles_end_h=8.5,
        lost_estimates=0.002,
        challenger="v2",
        challenger_from_h=5,
    )
    both = Rollout(champion="v1", challenger="v2")
    events = [
        *with_champion(),
        release(entered, "v2"),
        rollout(entered, Rollout(champion="v1"), both),
        *city.events(13),
    ]
    steady, shaken = desk(events), desk(events)

    steady.run(13, step_min=60)
    for hours, step_min in ((2, 15), (3, 180), (1, 60), (1, 20), (5, 300), (1, 60)):
        shaken.run(hours, step_min=step_min)
        shaken.restart()

    assert len(steady.ticks()) == 13 * 4 + 1
    assert [dict(tick) for tick in shaken.ticks()] == [dict(tick) for tick in steady.ticks()]
    assert len(set(kinds(steady))) >= 3


@pytest.mark.slow
def test_postgres_gives_the_same_ticks_as_sqlite(desk, tmp_path):
    events = with_champion() + RecordedCity(seed=11, per_minute=0.7, lost_estimates=0.01).events(4) + history(ends=50)
    with postgres(tmp_path) as url:
        served, embedded = desk(events, database=url), desk(events)
        for one in (served, embedded):
            one.run(4)
        assert len(served.ticks()) == 4 * 4 + 1
        assert [dict(tick) for tick in served.ticks()] == [dict(tick) for tick in embedded.ticks()]
        served.engine.dispose()


@pytest.mark.slow
def test_replay_computes_every_tick_again_and_reports_a_changed_one(desk):
    desk = desk(with_champion() + RecordedCity(seed=6, bridge_closed_h=0, slowdown=1.6).events(9))
    desk.run(9)

    told = list(differences(desk.engine, RECORD))
    assert len(told) == len(desk.ticks()) == 37
    assert [cohort for cohort, difference in told if difference] == []

    stricter = RECORD.model_copy(
        update={"policy": RECORD.policy.model_copy(update={"trips_between_false_alarms": 2.0})}
    )
    assert any("decision nothing, now watch" in difference for _, difference in differences(desk.engine, stricter))
    with desk.engine.begin() as tx:
        tx.execute(update(TICKS).where(TICKS.c.at == desk.ticks()[-1]["at"]).values(digest="0" * 64))
    assert [bool(difference) for _, difference in differences(desk.engine, RECORD)] == [False] * 36 + [True]


def test_with_approval_ask_a_retraining_waits_for_a_person(desk):
    desk = desk([*history(ends=1_200), *RecordedCity(seed=2, per_minute=0.3).events(3)], approval="ask")
    desk.run(1)
    assert desk.decisions() == []
    (waiting,) = [tick["decision_id"] for tick in desk.ticks() if tick["decision_id"]]

    desk.monitor.announcer.approve(waiting)
    assert [decision.decision_id for decision in desk.decisions()] == [waiting]
    with pytest.raises(ProblemError, match="does not wait"):
        desk.monitor.announcer.approve(waiting)
    desk.run(1)
    assert kinds(desk) == ["retrain", "watch"]


@pytest.mark.slow
def test_a_trip_that_ends_after_its_cohort_closed_is_counted_once(desk):
    slow = RecordedCity(seed=3, slowdown=6.0, bridge_closed_h=0)
    events = with_champion() + slow.events(12)
    desk = desk(events)
    desk.run(12)

    with reading(desk.engine) as tx:
        late = past_outcomes(tx, desk.clock.at)
    figures = [json.loads(tick["figures"]) for tick in desk.ticks()]
    assert late > 0
    open_then = sum(one["open"] for one in figures)
    assert open_then >= late
    delivered = sum(1 for _, _, draft in events if draft.type == "trip.delivered")
    with reading(desk.engine) as tx:
        working = len([row for row in tx.execute(select(TRIPS)) if row.outcome == "delivered"])
    assert sum(one["delivered"] for one in figures) + late + working == delivered
