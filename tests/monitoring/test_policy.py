"""The policy as a table: from evidence and record to one of seven decisions."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts import requirements
from contracts.decisions import KINDS
from monitoring.comparison import Duel
from monitoring.coverage import NO_TRIPS, OF_NOTHING, Share, Tally
from monitoring.evidence import Batch, Evidence, Health, Held, Reading, Retrainings, Serving, Stretch
from monitoring.policy import decide
from monitoring.standing import Unwatched, standing
from tests.monitoring.streams import NOON

RECORD = requirements.load()
POLICY = RECORD.policy
SURE = 2 / POLICY.verdict_alpha * 1.01
THRESHOLD = POLICY.trips_between_false_alarms
ENOUGH = int(RECORD["retrain-outcomes"].floor)
GOOD = Tally(above=100, below=100, of=1000)
BAD = Tally(above=250, below=80, of=1000)
HOURS_AGO = NOON - timedelta(hours=30)


def stretch(outcomes=ENOUGH, quarantined=Share(0, 1000)) -> Stretch:
    return Stretch(NOON - timedelta(hours=10), outcomes, quarantined)


def alarm(level=THRESHOLD, group=None, since=None) -> Reading:
    return Reading("above p90", group, level / 7, level, 2000, since or stretch())


def duel(rival="v2", **changed) -> Duel:
    even = Duel(rival, HOURS_AGO, POLICY.least_pairs, 0.0, 1.0, 1.0, GOOD, {"hills": GOOD}, NO_TRIPS, 1.0)
    return replace(even, **changed)


def batch(refused=True) -> Batch:
    return Batch(7, "b7", 0, 30, refused, "route shorter than the crow flies", NOON, NOON, {})


CALM = Evidence(
    cohort=NOON - timedelta(minutes=135),
    at=NOON,
    serving=Serving("v1", HOURS_AGO),
    retrainings=Retrainings(),
    health=Health(quarantined=Share(0, 200), joined=Share(30, 30)),
    clean_cohorts=50,
    outcomes=100_000,
    watched=True,
    readings=(alarm(level=2.0),),
    held=Held(GOOD, {"hills": GOOD}, stretch()),
    late=Share(100, 1000),
    joined=Share(1000, 1000),
    missing={"rain_mm_h": 0.0},
    challenger=None,
    previous=None,
)
NO_CHAMPION = replace(
    CALM, serving=Serving(), readings=(), held=Held(NO_TRIPS, {}, None), late=OF_NOTHING, watched=False
)


def health(**changed) -> Health:
    return replace(CALM.health, **changed)


CASES = {
    "all is well": (CALM, "nothing"),
    # data broken
    "a batch was refused whole": (replace(CALM, health=health(refused=(batch(),))), "data_broken"),
    "too many rows quarantined": (replace(CALM, health=health(quarantined=Share(30, 200))), "data_broken"),
    "a few rows quarantined": (replace(CALM, health=health(quarantined=Share(5, 200))), "nothing"),
    "a feed is silent": (replace(CALM, health=health(silent=("feed trips has not answered",))), "data_broken"),
    "estimates are lost": (replace(CALM, health=health(joined=Share(20, 30))), "data_broken"),
    "one lost estimate of thirty is no proof": (replace(CALM, health=health(joined=Share(29, 30))), "nothing"),
    "three clean cohorts are too few": (replace(CALM, clean_cohorts=POLICY.clean_cohorts - 1), "data_broken"),
    "four are enough": (replace(CALM, clean_cohorts=POLICY.clean_cohorts), "nothing"),
    "broken data beats an alarm": (replace(CALM, readings=(alarm(),), health=health(silent=("x",))), "data_broken"),
    "broken data beats a winner": (replace(CALM, challenger=duel(wins=SURE), clean_cohorts=0), "data_broken"),
    "a challenger that neither wins nor covers": (replace(CALM, challenger=duel(tally=BAD)), "drop_challenger"),
    # retrain
    "no champion yet": (NO_CHAMPION, "retrain"),
    "no champion, too little history": (replace(NO_CHAMPION, outcomes=ENOUGH - 1), "watch"),
    "an alarm with enough truth": (replace(CALM, readings=(alarm(),)), "retrain"),
    "an alarm in one group": (replace(CALM, readings=(alarm(group="hills"),)), "retrain"),
    "an alarm just below the threshold": (replace(CALM, readings=(alarm(level=THRESHOLD * 0.99),)), "nothing"),
    "an alarm with too little truth": (replace(CALM, readings=(alarm(since=stretch(ENOUGH - 1)),)), "watch"),
    "coverage fails for sure": (replace(CALM, held=Held(BAD, {}, stretch())), "retrain"),
    "coverage fails in one group": (replace(CALM, held=Held(GOOD, {"hills": BAD}, stretch())), "retrain"),
    "coverage of thirty trips proves nothing": (replace(CALM, held=Held(Tally(12, 2, 30), {}, stretch())), "nothing"),
    "rows since the change are quarantined": (
        replace(CALM, readings=(alarm(since=stretch(quarantined=Share(100, 1000))),)),
        "watch",
    ),
    "a retraining runs": (
        replace(CALM, readings=(alarm(),), retrainings=Retrainings("d-1", NOON - timedelta(hours=1))),
        "watch",
    ),
    "a retraining was lost": (replace(CALM, readings=(alarm(),), retrainings=Retrainings("d-1", HOURS_AGO)), "retrain"),
    "one was released today": (
        replace(CALM, readings=(alarm(),), retrainings=Retrainings(released=2, released_at=NOON - timedelta(hours=23))),
        "watch",
    ),
    "one was released yesterday": (
        replace(CALM, readings=(alarm(),), retrainings=Retrainings(released=2, released_at=NOON - timedelta(hours=25))),
        "retrain",
    ),
    "the first ever was released today": (
        replace(CALM, readings=(alarm(),), retrainings=Retrainings(released=1, released_at=NOON - timedelta(hours=9))),
        "retrain",
    ),
    "the first ever was released and does not serve yet": (
        replace(NO_CHAMPION, retrainings=Retrainings(released=1, released_at=NOON - timedelta(minutes=30))),
        "watch",
    ),
    "one was just refused": (
        replace(CALM, readings=(alarm(),), retrainings=Retrainings(refused_at=NOON, refused_why="gate")),
        "watch",
    ),
    "one was refused two hours ago": (
        replace(CALM, readings=(alarm(),), retrainings=Retrainings(refused_at=NOON - timedelta(hours=2))),
        "retrain",
    ),
    "a challenger may be the answer": (replace(CALM, readings=(alarm(),), challenger=duel()), "watch"),
    # promote
    "the challenger wins": (replace(CALM, challenger=duel(wins=SURE)), "promote"),
    "it wins while the champion is in alarm": (
        replace(CALM, readings=(alarm(),), challenger=duel(wins=SURE)),
        "promote",
    ),
    "it wins on too few pairs": (
        replace(CALM, challenger=duel(wins=SURE, pairs=POLICY.least_pairs - 1)),
        "nothing",
    ),
    "it wins but does not cover": (replace(CALM, challenger=duel(wins=SURE, tally=BAD)), "nothing"),
    "it wins but fails one group": (replace(CALM, challenger=duel(wins=SURE, groups={"hills": BAD})), "nothing"),
    "a small group proves nothing": (
        replace(CALM, challenger=duel(wins=SURE, groups={"hills": Tally(30, 0, 100)})),
        "promote",
    ),
    "the audit contradicts its gain": (
        replace(CALM, challenger=duel(wins=SURE, audit_loses=SURE)),
        "nothing",
    ),
    "the audit contradicts its coverage": (
        replace(CALM, challenger=duel(wins=SURE, audit_tally=Tally(20, 0, 50))),
        "nothing",
    ),
    "the audit says nothing yet": (replace(CALM, challenger=duel(wins=SURE, audit_loses=SURE / 2)), "promote"),
    # drop
    "the challenger loses": (replace(CALM, challenger=duel(loses=SURE)), "drop_challenger"),
    "it loses on too few pairs": (replace(CALM, challenger=duel(loses=SURE, pairs=10)), "nothing"),
    "it had its chance": (replace(CALM, challenger=duel(pairs=POLICY.most_pairs)), "drop_challenger"),
    "it wins, does not cover, and had its chance": (
        replace(CALM, challenger=duel(wins=SURE, tally=BAD, pairs=POLICY.most_pairs)),
        "drop_challenger",
    ),
    # roll back
    "the one before does better": (replace(CALM, previous=duel("v0", wins=SURE)), "roll_back"),
    "the one before does worse": (replace(CALM, previous=duel("v0", loses=SURE)), "nothing"),
    "rolling back comes before retraining": (
        replace(CALM, readings=(alarm(),), previous=duel("v0", wins=SURE)),
        "roll_back",
    ),
    # watch
    "promises are broken, coverage holds": (replace(CALM, late=Share(200, 1000)), "watch"),
    "the weather is missing": (replace(CALM, missing={"rain_mm_h": 0.9, "city_pace": 0.0}), "watch"),
    "nobody knows what to expect of the champion": (replace(CALM, watched=False), "watch"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_policy_decides(case):
    evidence, kind = CASES[case]
    assert decide(evidence, RECORD).kind == kind


@pytest.mark.parametrize("case", CASES)
def test_every_decision_says_why_and_why_not_each_other(case):
    verdict = decide(CASES[case][0], RECORD)
    assert all(verdict.reasons)
    assert [kind for kind, _ in verdict.rejected] == [kind for kind in KINDS_IN_ORDER if kind != verdict.kind]
    assert all(why for _, why in verdict.rejected)
    assert set(verdict.requirement_ids) <= {requirement.id for requirement in RECORD.all()}


KINDS_IN_ORDER = ("data_broken", "roll_back", "promote", "drop_challenger", "retrain", "watch", "nothing")


def test_all_seven_kinds_are_reached():
    assert {kind for _, kind in CASES.values()} == set(KINDS)


evidences = st.builds(
    replace,
    st.sampled_from([CALM, NO_CHAMPION]),
    health=st.sampled_from(
        [CALM.health, health(refused=(batch(),)), health(joined=Share(0, 9)), health(silent=("x",))]
    ),
    clean_cohorts=st.integers(0, 6),
    readings=st.sampled_from([(), (alarm(),), (alarm(), alarm(group="hills"), alarm(since=stretch(3)))]),
    retrainings=st.sampled_from([case.retrainings for case, _ in CASES.values()]),
    held=st.sampled_from([Held(tally, {"hills": tally}, stretch()) for tally in (GOOD, BAD, NO_TRIPS)]),
    challenger=st.sampled_from([case.challenger for case, _ in CASES.values()]),
    previous=st.sampled_from([case.previous for case, _ in CASES.values()]),
    late=st.builds(Share, st.integers(0, 500), st.just(500)),
)


@settings(max_examples=300, deadline=None)
@given(evidence=evidences)
def test_whatever_the_evidence_there_is_one_decision_and_broken_data_beats_all(evidence):
    verdict = decide(evidence, RECORD)

    assert verdict.kind in KINDS
    assert {verdict.kind, *(kind for kind, _ in verdict.rejected)} == set(KINDS)
    broken = evidence.health != CALM.health or evidence.clean_cohorts < POLICY.clean_cohorts
    assert (verdict.kind == "data_broken") == broken
    assert decide(evidence, RECORD) == verdict
    if verdict.kind == "promote":
        assert verdict.target == evidence.challenger.rival
        assert evidence.challenger.pairs >= POLICY.least_pairs


def with_limit(requirement_id: str, **limits):
    changed = [item.model_copy(update=limits) if item.id == requirement_id else item for item in RECORD.all()]
    return RECORD.model_copy(update={"requirement": changed})


def with_policy(**figures):
    return RECORD.model_copy(update={"policy": POLICY.model_copy(update=figures)})


@pytest.mark.parametrize(
    ("case", "record", "kind"),
    [
        ("an alarm with too little truth", with_limit("retrain-outcomes", at_least=10), "retrain"),
        ("all is well", with_limit("late-promises", at_most=0.01), "watch"),
        ("all is well", with_limit("coverage-p90", at_least=0.97, at_most=0.99), "retrain"),
        ("a few rows quarantined", with_limit("quarantine-share", at_most=0.001), "data_broken"),
        ("the weather is missing", with_limit("missing-share", at_most=0.95), "nothing"),
        ("one lost estimate of thirty is no proof", with_limit("outcome-join", at_least=0.9999), "data_broken"),
        ("an alarm just below the threshold", with_policy(trips_between_false_alarms=1000.0), "retrain"),
        ("three clean cohorts are too few", with_policy(clean_cohorts=2), "nothing"),
        ("one was released today", with_policy(retrain_cooldown_h=2), "retrain"),
        ("it wins on too few pairs", with_policy(least_pairs=10), "promote"),
        ("the challenger wins", with_policy(verdict_alpha=0.0001), "nothing"),
        ("it had its chance", with_policy(most_pairs=100_000), "nothing"),
        ("one was just refused", with_policy(closing_min=0), "retrain"),
        ("a small group proves nothing", with_policy(group_outcomes=50), "nothing"),
    ],
)
def test_limits_come_from_the_record(case, record, kind):
    """A changed record changes the verdict: one number, one place."""
    if record is RECORD:
        pytest.fail("the record was not changed")
    evidence, before = CASES[case]
    assert decide(evidence, RECORD).kind == before != kind
    assert decide(evidence, record).kind == kind


def test_retrain_names_the_loudest_change():
    early, late = stretch(), replace(stretch(), since=NOON - timedelta(hours=5))
    loud, quiet = alarm(THRESHOLD * 50, "hills", late), alarm(THRESHOLD, None, early)
    assert decide(replace(CALM, readings=(quiet, loud)), RECORD).change_at == late.since


def test_coverage_that_fails_before_an_alarm_counts_from_the_detectors_run_and_excess_from_the_window():
    run, window = replace(stretch(ENOUGH - 1), since=NOON - timedelta(hours=3)), stretch()
    quiet = alarm(THRESHOLD / 2, since=run)
    too_low = replace(CALM, readings=(quiet,), held=Held(BAD, {}, window))
    too_high = replace(CALM, readings=(quiet,), held=Held(Tally(1, 1, 1000), {}, window))
    assert decide(too_low, RECORD).kind == "watch"
    assert decide(too_high, RECORD).change_at == window.since


def test_watching_says_how_much_truth_there_is():
    verdict = decide(replace(CALM, readings=(alarm(since=stretch(430)),)), RECORD)
    assert any("430 of 1000 outcomes since the change" in reason for reason in verdict.reasons)


def line_of(evidence: Evidence, requirement_id: str):
    return next(line for line in standing(evidence, RECORD) if line.requirement.id == requirement_id)


@pytest.mark.parametrize(
    ("shares", "worst"),
    [
        ({"hills": 900, "west": 855}, "west"),
        ({"hills": 855, "west": 900}, "hills"),
        ({"hills": 900, "west": 944}, "west"),  # too high is as bad as too low
        ({"hills": 800, "west": 700}, "west"),  # both red
    ],
)
def test_a_line_shows_its_worst_part_not_its_first(shares, worst):
    groups = {group: Tally(above=1000 - covered, below=100, of=1000) for group, covered in shares.items()}
    line = line_of(replace(CALM, held=Held(GOOD, groups, stretch())), "group-coverage-p90")
    assert (line.note, line.measured) == (worst, shares[worst] / 1000)


def test_the_worst_column_is_shown_and_a_red_one_before_all():
    assert line_of(replace(CALM, missing={"city_pace": 0.0, "rain_mm_h": 0.4}), "missing-share").measured == 0.4
    few = {"hills": Tally(50, 10, 100), "west": BAD}
    assert line_of(replace(CALM, held=Held(GOOD, few, stretch())), "group-coverage-p90").note == "west"


@pytest.mark.parametrize(
    ("side", "group", "requirement_id"),
    [
        ("above p90", None, "coverage-p90"),
        ("below p10", None, "coverage-band"),
        ("above p90", "hills", "group-coverage-p90"),
        ("below p10", "hills", "group-coverage-band"),
    ],
)
def test_an_alarm_names_the_requirement_of_its_side_and_trips(side, group, requirement_id):
    verdict = decide(replace(CALM, readings=(replace(alarm(group=group), side=side),)), RECORD)
    assert verdict.kind == "retrain"
    assert verdict.requirement_ids == (requirement_id, "retrain-outcomes")


def test_a_requirement_that_nobody_measures_is_an_error_that_says_so():
    record = with_limit("estimate-latency-p95", checked_by=["monitor"])
    with pytest.raises(Unwatched, match="estimate-latency-p95"):
        standing(CALM, record)


def test_every_requirement_that_a_monitor_checks_has_a_line():
    wanted = [requirement.id for requirement in RECORD.all() if "monitor" in requirement.checked_by]
    assert [line.requirement.id for line in standing(CALM, RECORD)] == wanted
    assert {line.colour for line in standing(CALM, RECORD)} == {"green"}
    assert "red" in {line.colour for line in standing(CASES["coverage fails for sure"][0], RECORD)}
    assert {line.colour for line in standing(NO_CHAMPION, RECORD)} > {"not enough truth"}
