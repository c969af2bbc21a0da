"""Champion against challenger on the same trips."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from datetime import timedelta

import pytest

from contracts import requirements
from monitoring.cohorts import JudgedTrip
from monitoring.comparison import Comparison
from monitoring.coverage import Quantiles
from tests.monitoring.streams import NOON, SPREAD, a_trip, quantiles

POLICY = requirements.load().policy
NEEDED = 2 / POLICY.verdict_alpha
COHORT = 20  # trips


def a_comparison() -> Comparison:
    return Comparison("v1", "v2", NOON, POLICY.loss_clip_min, POLICY.gain_clip_min)


def a_cohort(rng: random.Random, said: Sequence[Quantiles]) -> list[JudgedTrip]:
    """Trips of 20 minutes in the median, for all of which v1 and v2 said the same."""
    quantiles = dict(zip(("v1", "v2"), said, strict=True))
    return [a_trip(20 * math.exp(SPREAD * rng.gauss(0, 1)), quantiles=quantiles) for _ in range(COHORT)]


def compared(
    pairs: int, seed: int, knows: float = 0.0, noise: float = 0.0
) -> tuple[Comparison, int | None, int | None]:
    """A comparison over trips of which 28% take 1.45 times as long; when it was first won and first lost."""
    rng = random.Random(seed)
    comparison, won, lost = a_comparison(), None, None
    for number in range(COHORT, pairs + 1, COHORT):
        cohort = []
        for place in range(COHORT):
            slow = 1.45 if rng.random() < 0.28 else 1.0
            rival = quantiles(20 * slow**knows * math.exp(noise * rng.gauss(0, 1)))
            minutes = 20 * slow * math.exp(SPREAD * rng.gauss(0, 1))
            cohort.append(a_trip(minutes, quantiles={"v1": quantiles(), "v2": rival}, audit=place == 0))
        comparison.add(cohort)
        standing = comparison.standing()
        won = won or (number if standing.wins >= NEEDED else None)
        lost = lost or (number if standing.loses >= NEEDED else None)
    return comparison, won, lost


def test_a_challenger_that_knows_the_closed_bridge_wins_in_time():
    runs = [compared(1_500, seed, knows=1.0) for seed in range(15)]
    assert all(lost is None for _, _, lost in runs)
    assert sorted(won or 9_999 for _, won, _ in runs)[7] <= 1_000


def test_a_noisy_challenger_loses():
    runs = [compared(1_500, seed, knows=0.0, noise=0.25) for seed in range(6)]
    assert all(won is None for _, won, _ in runs)
    assert sum(lost is not None for _, _, lost in runs) >= 5


def verdicts_of(runs: int, drawn) -> tuple[int, int]:
    """How many of these runs over 60 cohorts were ever won, and how many lost; `drawn` makes a cohort's quantiles."""
    rng, won, lost = random.Random(4), 0, 0
    for _ in range(runs):
        comparison, odds = a_comparison(), []
        for _ in range(60):
            comparison.add(a_cohort(rng, drawn(rng)))
            odds.append(comparison.standing())
        won += any(standing.wins >= NEEDED for standing in odds)
        lost += any(standing.loses >= NEEDED for standing in odds)
    return won, lost


def test_equals_whose_cohorts_share_a_jam_are_told_apart_no_oftener_than_alpha_allows():
    """Two rivals that differ, with the same mean loss: who errs is a coin flip, one for all trips of a cohort."""
    runs = 40
    won, lost = verdicts_of(runs, lambda rng: rng.sample([quantiles(20), quantiles(28)], 2))
    assert won + lost <= runs * POLICY.verdict_alpha


def test_a_rival_that_is_right_in_most_cohorts_wins():
    """The lever that must matter: the same cohorts, and the coin falls on one side nine times in ten."""
    right, wrong = quantiles(20), quantiles(28)
    won, lost = verdicts_of(10, lambda rng: (wrong, right) if rng.random() < 0.9 else (right, wrong))
    assert (won, lost) == (10, 0)


def test_trips_of_one_cohort_are_one_bet_however_many_they_are():
    few, many = a_comparison(), a_comparison()
    trip = a_trip(20, quantiles={"v1": quantiles(26), "v2": quantiles(20)})
    few.add([trip])
    many.add([trip] * 40)
    assert many.standing().wins == pytest.approx(few.standing().wins)
    assert many.standing().pairs == 40


def test_one_monstrous_trip_does_not_decide():
    comparison = a_comparison()
    good, awful = Quantiles(1, 2, 3000), Quantiles(1, 2, 3)
    comparison.add([a_trip(2_800, quantiles={"v1": awful, "v2": good})])
    assert comparison.standing().mean_gain_min <= POLICY.loss_clip_min
    assert comparison.standing().wins < NEEDED


def test_only_trips_requested_since_it_began_and_answered_by_both_count():
    comparison = a_comparison()
    both = {"v1": quantiles(26), "v2": quantiles()}
    early, lonely = (
        a_trip(requested_at=NOON - timedelta(minutes=1), quantiles=both),
        a_trip(quantiles={"v2": both["v2"]}),
    )
    comparison.add([early, lonely, a_trip(quantiles=both, outcome="lost")])
    assert (comparison.standing().pairs, comparison.standing().wins) == (0, 1)

    comparison.add([early, a_trip(quantiles=both)])
    assert comparison.standing().pairs == 1
    assert comparison.standing().wins > 1


def test_the_audits_trips_have_a_series_of_their_own():
    better, noisy = compared(2_000, 1, knows=1.0)[0].standing(), compared(2_000, 1, noise=0.4)[0].standing()
    assert better.audit_tally.of == 100
    assert better.audit_loses < 1 < better.wins
    assert 1 < noisy.audit_loses < noisy.loses
    assert better.groups["hills"].of == 2_000
