"""The rivals: our network as a training fits it, and LightGBM, each with a search of the same number of settings."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest.mock import patch

import lightgbm
import numpy as np
import torch

import model.fit
from contracts.snapshots import SnapshotZone
from contracts.trips import LEVELS, MODEL_INPUTS
from model.evaluation import pinball_min
from model.network import DurationNetwork, predict
from model.settings import Settings
from model.snapshot import Trips
from tests.benchmarks.contest import Contest

Setting = dict[str, Any]
Told = Callable[[str], None]
AS_TRAINED: Setting = {}

# Constants of model.fit by name, and the width of the hidden layers.
OURS: dict[str, Sequence[Any]] = {
    "PEAK_RATE": (7e-3, 1e-2, 1.4e-2, 2e-2),
    "DECAY": (0.03, 0.1, 0.3),
    "EPOCHS": (9, 13, 20),
    "hidden": (64, 96, 128, 192),
}
# Options of LightGBM by name. `unfolded` adds what our encoder makes of the same inputs: hour, weekday, zones' places.
TREES: dict[str, Sequence[Any]] = {
    "learning_rate": (0.03, 0.05, 0.1),
    "num_leaves": (15, 31, 63, 127),
    "min_data_in_leaf": (20, 50, 100, 200, 500),
    "feature_fraction": (0.6, 0.8, 1.0),
    "bagging_fraction": (0.6, 0.8, 1.0),
    "lambda_l2": (0.0, 1.0, 10.0),
    "max_bin": (255, 1023),
    "cat_smooth": (10.0, 50.0, 200.0),
    "cat_l2": (10.0, 50.0),
    "max_cat_to_onehot": (4, 32, 512),
    "unfolded": (False, True),
}
FIRST_TREES: Setting = {"learning_rate": 0.05, "num_leaves": 31, "min_data_in_leaf": 100, "unfolded": False}
CATEGORIES = ("pickup_zone", "dropoff_zone", "vehicle")
MOST_ROUNDS, PATIENCE = 3000, 50
# LightGBM's threads: two that share one processor wait for each other most of the time.
THREADS = min(2, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def settings(space: dict[str, Sequence[Any]], first: Setting, count: int) -> list[Setting]:
    """`first`, then settings drawn from the space; the same ones every time."""
    rng = np.random.default_rng(0)
    drawn = [{name: values[rng.integers(len(values))] for name, values in space.items()} for _ in range(count - 1)]
    return [first, *drawn]


def ours(contest: Contest, seed: int, setting: Setting = AS_TRAINED) -> tuple[DurationNetwork, float]:
    """The calibrated network, fitted as a training does it, and the seconds that took."""
    torch.set_num_threads(Settings().model_threads)
    learn, newest = contest.windows
    began = time.monotonic()
    with _set(setting):
        network, _ = model.fit.fit(learn, contest.zones, seed, lambda _share: None)
    model.fit.calibrate(network, newest)
    return network, time.monotonic() - began


@contextmanager
def _set(setting: Setting) -> Iterator[None]:
    """Training with other constants. Raises `AttributeError` where it has no such constant."""
    constants = {name: value for name, value in setting.items() if name != "hidden"}
    with ExitStack() as stack:
        for name, value in constants.items():
            stack.enter_context(patch.object(model.fit, name, value))
        if "hidden" in setting:
            wide = partial(DurationNetwork, hidden=setting["hidden"])
            stack.enter_context(patch.object(model.fit, "DurationNetwork", wide))
        yield


def search_ours(contest: Contest, count: int, told: Told) -> tuple[Setting, list[dict[str, Any]]]:
    """The setting with the least loss on the newest training rows before calibration, and what each one reached."""
    learn, newest = contest.windows
    tried: list[dict[str, Any]] = []
    torch.set_num_threads(Settings().model_threads)
    for setting in settings(OURS, AS_TRAINED, count):
        told(f"our setting {len(tried) + 1} of {count}")
        began = time.monotonic()
        with _set(setting):
            network, _ = model.fit.fit(learn, contest.zones, 1, lambda _share: None)
        loss = pinball_min(predict(network, newest.inputs), newest.duration_min)
        tried.append({"setting": setting, "pinball_min": loss.tolist(), "s": time.monotonic() - began})
    best = min(tried, key=lambda item: sum(item["pinball_min"]))
    return best["setting"], tried


@dataclass(frozen=True)
class Trees:
    """Three gradient-boosted quantile models, one a level, and what they see of a trip."""

    boosters: list[lightgbm.Booster]
    chosen: list[Setting]
    zones: Sequence[SnapshotZone]
    training_s: float

    def predict(self, trips: Trips) -> np.ndarray:
        """Quantiles in minutes, shape (n, 3), put in order where they cross."""
        seen = {flag: columns(trips, self.zones, unfolded=flag) for flag in {_unfolded(item) for item in self.chosen}}
        said = [
            booster.predict(seen[_unfolded(setting)], num_threads=THREADS)
            for booster, setting in zip(self.boosters, self.chosen, strict=True)
        ]
        return np.sort(np.stack(said, axis=1), axis=1)


def trees(contest: Contest, seed: int, chosen: Sequence[Setting]) -> Trees:
    """LightGBM with a setting for each level, stopped early by the newest training rows."""
    began = time.monotonic()
    boosters = [_boost(contest, level, setting, seed) for level, setting in zip(LEVELS, chosen, strict=True)]
    return Trees(boosters, list(chosen), contest.zones, time.monotonic() - began)


def regrown(found: Trees, contest: Contest, seed: int) -> Trees:
    """The same trees grown on all training rows, with the rounds that early stopping found."""
    began = time.monotonic()
    boosters = []
    for level, setting, booster in zip(LEVELS, found.chosen, found.boosters, strict=True):
        rows = _dataset(contest.train, contest.zones, setting)
        boosters.append(lightgbm.train(_options(level, setting, seed), rows, booster.best_iteration))
    return Trees(boosters, found.chosen, contest.zones, time.monotonic() - began)


def search_trees(contest: Contest, count: int, told: Told) -> tuple[list[Setting], list[dict[str, Any]]]:
    """For each level the setting with the least loss on the newest training rows, and what each one reached."""
    tried: list[dict[str, Any]] = []
    for setting in settings(TREES, FIRST_TREES, count):
        told(f"LightGBM's setting {len(tried) + 1} of {count}")
        grown = trees(contest, 1, [setting] * len(LEVELS))
        loss = [booster.best_score["newest"]["quantile"] for booster in grown.boosters]
        rounds = [booster.best_iteration for booster in grown.boosters]
        tried.append({"setting": setting, "pinball_min": loss, "rounds": rounds, "s": grown.training_s})
    return chosen(tried), tried


def chosen(tried: Sequence[dict[str, Any]], *, unfolded: bool | None = None) -> list[Setting]:
    """For each level the best of the settings tried; `unfolded` leaves those with or without our features."""
    fit = [item for item in tried if unfolded in (None, _unfolded(item["setting"]))]
    best = [min(fit, key=lambda item, at=at: item["pinball_min"][at]) for at in range(len(LEVELS))]
    return [item["setting"] for item in best]


def columns(trips: Trips, zones: Sequence[SnapshotZone], *, unfolded: bool) -> np.ndarray:
    """The contract's inputs, shape (n, 9), NaN where missing; `unfolded` adds eight columns made from them."""
    plain = [trips.inputs[item.name].astype(np.float64) for item in MODEL_INPUTS]
    if not unfolded:
        return np.stack(plain, axis=1)
    place = np.full((1 + max(zone.zone for zone in zones), 2), np.nan)
    for zone in zones:
        place[zone.zone] = zone.x_km, zone.y_km
    start, end = place[trips.inputs["pickup_zone"]], place[trips.inputs["dropoff_zone"]]
    minute = trips.inputs["minute_of_week"]
    return np.column_stack([*plain, minute % 1440, minute // 1440, start, end, end - start])


def _boost(contest: Contest, level: float, setting: Setting, seed: int) -> lightgbm.Booster:
    learn, newest = contest.windows
    rows = _dataset(learn, contest.zones, setting)
    stops = _dataset(newest, contest.zones, setting, rows)
    return lightgbm.train(
        _options(level, setting, seed),
        rows,
        MOST_ROUNDS,
        valid_sets=[stops],
        valid_names=["newest"],
        callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
    )


def _dataset(
    trips: Trips, zones: Sequence[SnapshotZone], setting: Setting, like: lightgbm.Dataset | None = None
) -> lightgbm.Dataset:
    seen = columns(trips, zones, unfolded=_unfolded(setting))
    categories = [at for at, item in enumerate(MODEL_INPUTS) if item.name in CATEGORIES]
    return lightgbm.Dataset(seen, trips.duration_min, reference=like, categorical_feature=categories)


def _options(level: float, setting: Setting, seed: int) -> dict[str, Any]:
    own = {name: value for name, value in setting.items() if name != "unfolded"}
    fixed = {"objective": "quantile", "metric": "quantile", "alpha": level, "bagging_freq": 1, "seed": seed}
    return own | fixed | {"num_threads": THREADS, "verbosity": -1, "deterministic": True}


def _unfolded(setting: Setting) -> bool:
    return bool(setting["unfolded"])
