"""A strong peer for the ladder: LightGBM on the same rows and inputs. Development only: `pip install lightgbm`."""

from __future__ import annotations

import numpy as np

from contracts.problems import TandemError
from contracts.trips import LEVELS, MODEL_INPUTS
from model.snapshot import HELD_OUT, Trips

CATEGORIES = ("pickup_zone", "dropoff_zone", "vehicle")
MOST_ROUNDS, PATIENCE = 1500, 30
# One fair setting; `make benchmark-model` searches for better ones.
OPTIONS = {"learning_rate": 0.1, "num_leaves": 31, "min_data_in_leaf": 100, "verbosity": -1, "deterministic": True}


class NoPeer(TandemError):
    """LightGBM is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "TANDEM_MODEL_PEER needs LightGBM, which is no part of a deployment: pip install 'tandem-couriers[dev]'"
        )


def quantiles_min(past: Trips, test: Trips, seed: int, threads: int) -> np.ndarray:
    """What LightGBM says of `test`, shape (n, 3), learnt from `past`, whose newest eighth stops it early; sorted, since
    three separate models may cross. Raises `NoPeer`."""
    try:
        import lightgbm
    except ImportError as error:
        raise NoPeer from error
    categories = [at for at, item in enumerate(MODEL_INPUTS) if item.name in CATEGORIES]
    cut = int(len(past) * (1 - HELD_OUT))
    learn, newest = past.take(slice(0, cut)), past.take(slice(cut, None))
    rows = lightgbm.Dataset(columns(learn), learn.duration_min, categorical_feature=categories, free_raw_data=False)
    stops = lightgbm.Dataset(columns(newest), newest.duration_min, reference=rows, free_raw_data=False)
    answers = []
    for level in LEVELS:
        options = OPTIONS | {"objective": "quantile", "alpha": level, "seed": seed, "num_threads": threads}
        early = lightgbm.early_stopping(PATIENCE, verbose=False)
        trees = lightgbm.train(options, rows, MOST_ROUNDS, valid_sets=[stops], callbacks=[early])
        answers.append(trees.predict(columns(test), num_threads=threads))
    return np.sort(np.stack(answers, axis=1), axis=1)


def columns(trips: Trips) -> np.ndarray:
    """The contract's inputs side by side, shape (n, 9), NaN where missing."""
    return np.stack([trips.inputs[item.name].astype(np.float64) for item in MODEL_INPUTS], axis=1)
