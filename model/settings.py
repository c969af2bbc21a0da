"""The model team's settings, read once and passed in."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from chassis.addresses import Addresses

REFUSED = 3  # exit status of a training that ends without a release, with its reasons


class Settings(Addresses):
    """`TANDEM_*` settings of training and of the training worker."""

    # With two threads on two busy cores each step waits for the slower one: five times as long. The same number of
    # threads gives the same bytes.
    model_threads: int = 1
    model_device: Literal["auto", "cpu", "cuda"] = "auto"
    model_peer: bool = False  # LightGBM beside the candidate in the evidence: a training takes about twice as long
    training_nice: int = 10  # a training under the worker yields to the live system

    @property
    def weights(self) -> Path:
        """Torch weights by bundle version: a correction starts from the champion's. Never part of a bundle."""
        return self.var / "model" / "weights"

    @property
    def mlflow_uri(self) -> str:
        """MLflow's tracking database."""
        return f"sqlite:///{self.var.absolute()}/mlflow.db"
