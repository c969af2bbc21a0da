"""Champion against challenger on the same trips."""

from __future__ import annotations

import math
import random
from datetime import timedelta

from contracts import requirements
from monitoring.comparison import Comparison
from monitoring.coverage import Quantiles
from tests.monitoring.streams import NOON, SPREAD, a_trip, quantiles

POLICY = requirements.load().policy
NEEDED = 2 / POLICY.verdict_alpha


def compared(
    pairs: int, seed: int, knows: float = 0.0, noise: float = 0.0
) -> tuple[Comparison, int | None, int | None]:
    """A comparison over trips of which 28% take 1.45 times as long; when it was first won and first lost."""
    rng = random.Random(seed)
    comparison = Comparison("v1", "v2", NOON, POLICY.loss_clip_min)
    won = lost = None
    for number in range(pairs):
        slow = 1.45 if rng.random() < 0.28 else 1.0
        rival = quantiles(20 * slow**knows * math.exp(noise * rng.gauss(0, 1)))
        minutes = 20 * slow * math.exp(SPREAD * rng.gauss(0, 1))
        comparison.add(a_trip(minutes, quantiles={"v1": quantiles(), "v2": rival}, audit=number % 20 == 0))
        if number % 20 == 0:  # as often as cohorts close
            standing = comparison.standing()
            won = won or (number if standing.wins >= NEEDED else None)
            lost = lost or (number if standing.loses >= NEEDED else None)
    return comparison, won, lost


def test_a_challenger_that_knows_the_closed_bridge_wins_in_time():
    runs = [compared(1_500, seed, knows=1.0) for seed in range(6)]
    assert all(lost is None for _, _, lost in runs)
    assert sorted(won or 9_999 for _, won, _ in runs)[3] <= 1_000


def test_a_noisy_challenger_loses():
    runs = [compared(1_500, seed, knows=0.0, noise=0.25) for seed in range(6)]
    assert all(won is None for _, won, _ in runs)
    assert sum(lost is not None for _, _, lost in runs) >= 5


def test_equals_are_told_apart_no_oftener_than_alpha_allows():
    """Two rivals that differ, with the same mean loss: which one errs is a coin flip."""
    rng = random.Random(4)
    verdicts = 0
    for _ in range(40):
        comparison = Comparison("v1", "v2", NOON, POLICY.loss_clip_min)
        decided = False
        for number in range(400):
            mine, theirs = rng.sample([quantiles(20), quantiles(26)], 2)
            comparison.add(a_trip(rng.uniform(10, 40), quantiles={"v1": mine, "v2": theirs}))
            if number % 20 == 0:
                standing = comparison.standing()
                decided = decided or max(standing.wins, standing.loses) >= NEEDED
        verdicts += decided
    assert verdicts <= 40 * POLICY.verdict_alpha * 2


def test_one_monstrous_trip_does_not_decide():
    comparison = Comparison("v1", "v2", NOON, POLICY.loss_clip_min)
    good, awful = Quantiles(1, 2, 3000), Quantiles(1, 2, 3)
    comparison.add(a_trip(2_800, quantiles={"v1": awful, "v2": good}))
    assert comparison.standing().mean_gain_min <= POLICY.loss_clip_min
    assert comparison.standing().wins < NEEDED


def test_only_trips_requested_since_it_began_and_answered_by_both_count():
    comparison = Comparison("v1", "v2", NOON, POLICY.loss_clip_min)
    both = {"v1": quantiles(), "v2": quantiles()}
    comparison.add(a_trip(requested_at=NOON - timedelta(minutes=1), quantiles=both))
    comparison.add(a_trip(quantiles={"v2": quantiles()}))
    comparison.add(a_trip(quantiles=both, outcome="lost"))
    assert comparison.standing().pairs == 0

    comparison.add(a_trip(quantiles=both))
    assert comparison.standing().pairs == 1


def test_the_audits_trips_have_a_series_of_their_own():
    better, noisy = compared(2_000, 1, knows=1.0)[0].standing(), compared(2_000, 1, noise=0.4)[0].standing()
    assert better.audit_tally.of == 100
    assert better.audit_loses < 1 < better.wins
    assert 1 < noisy.audit_loses < noisy.loses
    assert better.groups["hills"].of == 2_000
