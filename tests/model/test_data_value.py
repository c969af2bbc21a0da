"""What a source of data is worth: what the model loses without it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rich.console import Console

from contracts.trips import MODEL_INPUTS
from model import data_value
from model.data_value import SOURCES, losses, owners, without, worth
from model.snapshot import Snapshot, read
from tests.model import small_city


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    folder = tmp_path_factory.mktemp("snapshots")
    return read(folder / small_city.write_snapshot(folder, small_city.trips(4000, 28, seed=6)).digest)


@pytest.mark.parametrize("source", SOURCES)
def test_a_source_left_out_tells_nothing_and_the_others_tell_all(snapshot, source):
    inputs, blind = snapshot.trips.inputs, without(snapshot.trips.inputs, SOURCES[source])

    assert list(blind) == [item.name for item in MODEL_INPUTS]
    for name, values in blind.items():
        assert values.dtype == inputs[name].dtype
        if name in SOURCES[source]:
            assert len(np.unique(values)) == 1
            assert len(np.unique(inputs[name])) > 1
        else:
            assert values is inputs[name]


@pytest.mark.slow
def test_what_matters_in_the_city_costs_more_to_lose_than_what_does_not(snapshot, monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr("model.fit.FEWEST_STEPS", 100)
    monkeypatch.setattr("model.fit.EPOCHS", 1)
    sources = {"parcel": ("parcel_kg",), "vehicle": ("vehicle",)}  # in the small city no parcel is too heavy
    first, second = worth(sources, *losses(snapshot, sources, 0, Console()))

    assert (first.source, second.source) == ("vehicle", "parcel")
    assert first.bounds[0] > max(1, second.bounds[1])
    assert first.more_min == pytest.approx(first.loss_min * (1 - 1 / first.ratio))
    assert first.seeds == 1


def test_rounds_are_repeated_while_they_fit_and_the_first_always_ends(snapshot, monkeypatch):
    monkeypatch.setattr("model.fit.FEWEST_STEPS", 2)
    monkeypatch.setattr("model.fit.EPOCHS", 1)
    sources = {"parcel": ("parcel_kg",)}

    def rounds(minutes: float) -> set[int]:
        clock = iter(np.arange(0.0, 600.0, 60.0))  # a minute from one look at it to the next: one look a round
        _, found = losses(snapshot, sources, minutes, Console(), now=lambda: float(next(clock)))
        return {len(each) for each in found.values()}

    assert rounds(1) == {1}
    assert rounds(2.5) == {2}
    assert rounds(60) == {data_value.SEEDS}


def test_a_source_names_its_columns_and_their_owners():
    assert owners(("rain_mm_h", "temperature_c")) == (["rain_mm_h", "temperature_c"], ["city"])
    assert owners(("minute_of_week",)) == (["requested_at"], ["product"])


def test_the_command_leaves_a_table_and_a_picture(tmp_path, monkeypatch, capsys):
    small_city.write_snapshot(tmp_path / "snapshots", small_city.trips(1500, 14, seed=7))
    monkeypatch.setenv("TANDEM_VAR", str(tmp_path))
    monkeypatch.setattr("model.fit.FEWEST_STEPS", 2)
    monkeypatch.setattr("model.fit.EPOCHS", 1)

    assert data_value.main(["--minutes", "0", "--out", str(tmp_path / "reports")]) == 0
    assert "requested_at" in capsys.readouterr().out
    assert (tmp_path / "reports" / "data-value.png").read_bytes().startswith(b"\x89PNG")


def test_without_a_snapshot_there_is_nothing_to_weigh(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TANDEM_VAR", str(tmp_path))

    assert data_value.main([]) == data_value.CANNOT
    assert "no snapshot in" in capsys.readouterr().out
