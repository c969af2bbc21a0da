"""One process of a training under torchrun: fits a few steps and leaves its weights as `<folder>/<rank>.pt`."""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl
import torch
from torch.nn.utils import parameters_to_vector

from model import fit
from model.parallel import place
from model.snapshot import prepare
from tests.model import small_city

if __name__ == "__main__":
    fit.FEWEST_STEPS = fit.MOST_STEPS = 30
    table = small_city.trips(3000, 28, seed=2).filter(pl.col("duration_min").is_not_null())
    with place("cpu") as here:
        trips = prepare(table, small_city.ZONES, small_city.BERLIN)
        network, _ = fit.fit(trips, small_city.ZONES, 1, lambda _: None, here)
    torch.save(parameters_to_vector(network.parameters()), Path(sys.argv[1]) / f"{here.rank}.pt")
