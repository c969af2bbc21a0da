"""A correction after a change: it repairs what changed, leaves the rest, and refuses to guess from too little."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from contracts import requirements
from model.candidate import NotEnoughTruth, better, propose
from model.correction import BLOCKS, Correction
from model.network import predict
from model.snapshot import prepare
from tests.model import small_city
from tests.model.conftest import CHANGE

RECORD = requirements.load()


def rows(table: pl.DataFrame):
    seen = table.filter(pl.col("duration_min").is_not_null()).sort("requested_at")
    return prepare(seen, small_city.ZONES, small_city.BERLIN)


def after(trained, count: int, factor: float):
    """The snapshot of a retraining: the past and `count` trips since a change that multiplies crossing trips."""
    new = small_city.trips(count, 0.8, seed=7, start=CHANGE, bridge_factor=factor)
    made = trained.snapshot.made.model_copy(update={"change_at": CHANGE})
    return replace(trained.snapshot, made=made, trips=rows(pl.concat([trained.table, new])))


def covered(network, trips) -> tuple[float, float]:
    """Share of trips within p90: of those that cross the river, and of the others."""
    crossing = small_city.crosses(trips.inputs["pickup_zone"], trips.inputs["dropoff_zone"])
    within = trips.duration_min <= predict(network, trips.inputs)[:, 2]
    return within[crossing].mean(), within[~crossing].mean()


@pytest.fixture(scope="module")
def tomorrow():
    return rows(small_city.trips(4000, 2, seed=8, start=CHANGE + timedelta(days=1), bridge_factor=1.45))


@pytest.fixture(scope="module")
def candidate(trained):
    return propose(after(trained, 1090, 1.45), trained.champion, RECORD, 1, lambda _share: None)


def test_it_repairs_the_changed_trips_of_the_days_to_come_and_not_the_others(trained, candidate, tomorrow):
    frozen_crossing, frozen_rest = covered(trained.champion.network, tomorrow)
    crossing, rest = covered(candidate.network, tomorrow)

    assert frozen_crossing < 0.8
    assert crossing >= 0.85
    assert rest == pytest.approx(frozen_rest, abs=0.03)


def test_no_row_has_a_say_in_its_own_evidence(trained):
    snapshot = after(trained, 1090, 1.45)
    since = snapshot.since_change()
    before, trips = snapshot.trips.take(~since), snapshot.trips.take(since)
    first = np.array_split(np.arange(len(trips)), BLOCKS)[0]
    took = trips.duration_min.copy()
    took[first] *= 2
    plain, doubled = (
        Correction(trained.champion.network, before, replace(trips, duration_min=minutes)).evidence()
        for minutes in (trips.duration_min, took)
    )
    assert np.array_equal(plain[first], doubled[first])
    assert not np.allclose(np.delete(plain, first, axis=0), np.delete(doubled, first, axis=0))


def test_its_evidence_foretells_the_days_to_come(candidate, tomorrow):
    told = (candidate.test.duration_min <= candidate.quantiles_min[:, 2]).mean()
    came = (tomorrow.duration_min <= predict(candidate.network, tomorrow.inputs)[:, 2]).mean()

    assert candidate.since_change == len(candidate.test)
    assert told == pytest.approx(came, abs=0.03)


def test_it_starts_from_the_champion_and_says_so(trained, candidate):
    assert candidate.corrects == trained.release.version
    assert candidate.scope == trained.champion.manifest.scope
    assert trained.release.version in candidate.how


def test_without_a_change_it_leaves_the_champion_nearly_as_it_was(trained):
    snapshot = after(trained, 1090, 1.0)
    since = snapshot.since_change()
    calm = Correction(trained.champion.network, snapshot.trips.take(~since), snapshot.trips.take(since)).corrected()

    assert calm.shift.abs().max() < 0.06
    assert (calm.calibration / trained.champion.network.calibration - 1).abs().max() < 0.1


def test_a_single_forgotten_parcel_moves_no_flow(trained):
    snapshot = after(trained, 1090, 1.0)
    since = snapshot.since_change()
    before, trips = snapshot.trips.take(~since), snapshot.trips.take(since)
    odd = replace(trips, duration_min=np.where(np.arange(len(trips)) == 100, 2000.0, trips.duration_min))
    plain, shaken = (
        Correction(trained.champion.network, before, some).shifts(np.arange(len(trips))) for some in (trips, odd)
    )
    assert np.abs(plain - shaken).max() < 0.05


def test_too_few_outcomes_are_not_enough_truth(trained):
    snapshot = after(trained, 900, 1.45)
    with pytest.raises(NotEnoughTruth, match=f"{snapshot.since_change().sum()} of 1000 outcomes since the change"):
        propose(snapshot, trained.champion, RECORD, 1, lambda _share: None)


def test_between_correction_and_all_rows_the_loss_on_the_same_newest_trips_decides(candidate):
    newest = 200
    test = candidate.test.take(slice(-newest, None))
    truth = np.repeat(test.duration_min[:, None], 3, axis=1)
    perfect = replace(candidate, test=test, quantiles_min=truth, how="all rows")
    poor = replace(candidate, test=test, quantiles_min=truth * 3, how="all rows")

    assert better(candidate, perfect).how.startswith("all rows; loss on the newest 200 trips")
    assert better(candidate, poor).how.startswith(candidate.how)


@pytest.mark.slow
def test_with_many_trips_since_the_change_all_rows_are_tried(trained):
    snapshot = after(trained, 1090, 1.45)
    recent = replace(snapshot, trips=snapshot.trips.take(slice(-4000, None)))  # a third of them since the change
    chosen = propose(recent, trained.champion, RECORD, 1, lambda _share: None)

    assert "all rows" in chosen.how
    assert chosen.since_change == snapshot.since_change().sum()
