"""What other teams expect of product, in their words, asked of the real service."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.examples import examples_of
from tests.product.conftest import Tandem, eventually

GIVEN = "trips that were delivered, cancelled and lost"


def passes(tandem: Tandem, seconds: float) -> None:
    """Wait for a short while of city time."""
    then = tandem.clock.now() + timedelta(seconds=seconds)
    eventually(lambda: tandem.clock.now() > then, f"{seconds} city seconds pass")


@pytest.fixture(scope="module")
def ended(shared) -> dict[str, str]:
    """Ids of three trips by how they ended."""
    trip_ids = {}
    for outcome in ("delivered", "cancelled", "lost"):
        trip_ids[outcome] = trip_id = shared.quote().trip_id
        assert shared.book(trip_id).is_success
        for event in ("picked_up", outcome):
            passes(shared, 30)
            assert shared.report(trip_id, event, shared.clock.now()).is_success
    return trip_ids


@pytest.mark.parametrize("example", examples_of("product"), ids=str)
def test_product_is_as_its_consumers_expect(example, shared, ended):
    assert example.given == GIVEN
    example.run(shared.client, ended)
