"""The peer on the ladder is a real one: better than the heuristic, near the model, and told where it is asked for."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from model import peer
from model.evaluation import pinball_min
from model.heuristic import Heuristic
from model.snapshot import Trips


def past_and_test(trained) -> tuple[Trips, Trips]:
    test = trained.windows.test
    return trained.snapshot.trips.take(slice(0, len(trained.snapshot.trips) - len(test))), test


@pytest.mark.slow
def test_lightgbm_beats_the_heuristic_and_is_near_the_model(trained):
    pytest.importorskip("lightgbm", reason="LightGBM is for development: no part of the model team's own extra")
    past, test = past_and_test(trained)
    answers = peer.quantiles_min(past, test, seed=1, threads=1)
    loss, ladder = pinball_min(answers, test.duration_min).mean(), trained.release.evidence.ladder

    assert (np.diff(answers, axis=1) >= 0).all()
    assert loss < pinball_min(Heuristic.fit(past).predict(test), test.duration_min).mean()
    assert 0.9 < loss / ladder["candidate"] < 1.2


@pytest.mark.slow
def test_it_learns_from_what_it_is_given(trained):
    pytest.importorskip("lightgbm", reason="LightGBM is for development: no part of the model team's own extra")
    past, test = past_and_test(trained)
    shuffled = Trips(
        past.requested_at, past.inputs, np.random.default_rng(1).permutation(past.duration_min), past.groups
    )
    blind = pinball_min(peer.quantiles_min(shuffled, test, seed=1, threads=1), test.duration_min).mean()

    assert blind > 1.2 * trained.release.evidence.ladder["candidate"]


def test_without_lightgbm_it_says_what_to_install(trained, monkeypatch):
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    past, test = past_and_test(trained)
    with pytest.raises(peer.NoPeer, match="pip install"):
        peer.quantiles_min(past, test, seed=1, threads=1)
