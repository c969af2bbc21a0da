"""First age: shapes, order of quantiles, monotony, missing values; they hold for any weights."""

from __future__ import annotations

import inspect
from datetime import datetime

import numpy as np
import pytest
import torch

from contracts.bundle import Scope
from contracts.trips import HIGHEST_ZONE, MODEL_INPUTS, TripRequest
from model.behaviour import behaviour
from model.bundle import arrays
from model.encoder import Encoder
from model.network import DurationNetwork, pinball_loss, predict
from tests.model.small_city import BERLIN, ZONES

NULLABLE = [item.name for item in MODEL_INPUTS if item.nullable]


def some_inputs(rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Random trips, a third of each nullable column missing, some zones unknown."""
    rng = np.random.default_rng(seed)
    zones = np.array([zone.zone for zone in ZONES] + [HIGHEST_ZONE])
    made = {
        "minute_of_week": rng.integers(0, 10080, rows),
        "pickup_zone": rng.choice(zones, rows),
        "dropoff_zone": rng.choice(zones, rows),
        "distance_km": np.exp(rng.uniform(np.log(0.05), np.log(200), rows)),
        "vehicle": rng.integers(0, 4, rows),
        "parcel_kg": rng.gamma(2, 3, rows) + 0.1,
        "rain_mm_h": rng.gamma(1, 2, rows),
        "temperature_c": rng.uniform(-50, 60, rows),
        "city_pace": rng.uniform(0.1, 20, rows),
    }
    for name in NULLABLE:
        made[name] = np.where(rng.random(rows) < 0.33, np.nan, made[name])
    return {item.name: made[item.name].astype(item.dtype) for item in MODEL_INPUTS}


def a_network(seed: int, scale: float = 1.0) -> DurationNetwork:
    """An untrained network, its weights `scale` times as large as usual."""
    torch.manual_seed(seed)
    network = DurationNetwork(ZONES)
    network.standardise(some_inputs(500), np.full(500, 20.0))
    with torch.no_grad():
        for weight in network.head.parameters():
            weight.mul_(scale)
    return network


def test_the_network_takes_the_contracts_inputs_in_the_contracts_order():
    assert list(inspect.signature(DurationNetwork.forward).parameters)[1:] == [item.name for item in MODEL_INPUTS]


@pytest.mark.parametrize("rows", [1, 2, 17])
def test_three_quantiles_a_trip(rows):
    assert predict(a_network(1), some_inputs(rows)).shape == (rows, 3)


@pytest.mark.parametrize("seed", range(5))
def test_quantiles_are_positive_and_never_cross_whatever_the_weights(seed):
    network = a_network(seed, scale=2.0)
    network.calibration.copy_(torch.tensor([0.3, 3.0]))
    network.shift.uniform_(-1, 1)
    answers = predict(network, some_inputs(3000, seed))

    assert np.isfinite(answers).all()
    assert (answers[:, 0] > 0).all()
    assert (np.diff(answers, axis=1) >= 0).all()


@pytest.mark.parametrize("seed", range(5))
def test_a_longer_distance_shortens_no_quantile_whatever_the_weights(seed):
    network, inputs = a_network(seed, scale=2.0), some_inputs(2000, seed)
    inputs["distance_km"] = np.minimum(inputs["distance_km"], 100).astype(np.float32)
    longer = inputs | {"distance_km": inputs["distance_km"] * np.float32(1.2)}
    near, far = predict(network, inputs), predict(network, longer)

    assert (far >= near * (1 - 1e-5)).all()
    assert (far > near).mean() > 0.9  # and the probe does move the answer


def test_once_calibrated_a_longer_distance_can_shorten_p90_and_the_gate_finds_it():
    """Short trips with many fixed minutes: what p90 adds shrinks faster than p50 grows, once it is squared."""
    network = a_network(0)
    with torch.no_grad():
        network.head.bias[0], network.head.bias[-2:] = float(np.log(8.0)), torch.tensor([-3.0, 8.0])
    trips = [
        TripRequest(
            trip_id=f"t-{number}",
            requested_at=datetime(2026, 6, 1, tzinfo=BERLIN),
            pickup_zone=ZONES[0].zone,
            dropoff_zone=ZONES[1].zone,
            distance_km=0.05 + 0.01 * number,
            vehicle="car",
        )
        for number in range(100)
    ]
    scope = Scope(zones=[zone.zone for zone in ZONES], vehicles=["car"], min_distance_km=0.05, max_distance_km=20)

    def shortened() -> bool:
        found = behaviour(lambda asked: predict(network, arrays(asked, BERLIN)), trips, scope, BERLIN)
        return not next(item for item in found if item.name == "a longer route shortens no quantile").passed

    assert not shortened()
    network.calibration.copy_(torch.tensor([1.0, 2.0]))
    assert shortened()


def test_trained_and_calibrated_p90_grows_with_distance_too(trained):
    inputs = {name: values.copy() for name, values in trained.windows.test.inputs.items()}
    answers = []
    for km in np.geomspace(0.05, 100, 25):
        inputs["distance_km"][:] = km
        answers.append(predict(trained.champion.network, inputs))
    assert (np.diff(np.stack(answers), axis=0) >= -1e-4).all()


@pytest.mark.parametrize("name", NULLABLE)
def test_a_missing_value_is_an_answerable_question_with_an_answer_of_its_own(name):
    network = a_network(3)
    inputs = some_inputs(50)
    inputs[name] = np.full(50, np.nan, dtype=np.float32)
    without = predict(network, inputs)
    inputs[name][:] = 5.0

    assert np.isfinite(without).all()
    assert (predict(network, inputs) != without).any()


def test_all_unknown_zones_share_one_slot():
    network, inputs = a_network(4), some_inputs(20)
    known = predict(network, inputs | {"pickup_zone": np.full(20, ZONES[0].zone)})
    one, other = (predict(network, inputs | {"pickup_zone": np.full(20, zone)}) for zone in (1000, 1001))

    assert (one == other).all()
    assert (one != known).any()


def test_time_of_week_closes_its_circle():
    encoder = Encoder(ZONES)
    zone = torch.ones(3, dtype=torch.int64)
    missing = [torch.full((3,), float("nan"))] * len(NULLABLE)
    last, first, noon = encoder(torch.tensor([10079, 0, 720]), zone, zone, zone, missing)

    assert (last - first).abs().max() < 0.05
    assert (noon - first).abs().max() > 1


def test_pinball_loss_punishes_lateness_above_p90_nine_times_as_much():
    quantiles = torch.tensor([[8.0, 10.0, 20.0]])
    one_above, one_below = (pinball_loss(quantiles, torch.tensor([minutes])) for minutes in (21.0, 19.0))

    assert float(one_above) == pytest.approx((0.1 * 13 + 0.5 * 11 + 0.9 * 1) / 3)
    assert float(one_below) == pytest.approx((0.1 * 11 + 0.5 * 9 + 0.1 * 1) / 3)
