"""What other teams expect of serving, in their words, asked of the real service."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from tests.bundles import make_bundle
from tests.examples import examples_of
from tests.serving.conftest import Service, a_champion, a_place


@pytest.fixture(scope="module")
def states(tmp_path_factory):
    """By the words of an example's `given`: a service in that state, shared by the examples that need it."""
    with ExitStack() as stack:

        def champion() -> Service:
            place = stack.enter_context(a_place(tmp_path_factory.mktemp("champion")))
            return stack.enter_context(a_champion(place, heeds_conditions=True))

        def challenger() -> Service:
            place = stack.enter_context(a_place(tmp_path_factory.mktemp("challenger")))
            service = stack.enter_context(a_champion(place))
            place.upstream.release(make_bundle(place.bundles, "2", minutes_per_km=4.0))
            service.until_serving(challenger="2")
            return service

        def nobody() -> Service:
            place = stack.enter_context(a_place(tmp_path_factory.mktemp("nobody")))
            return stack.enter_context(place.serving())

        make = {"a champion": champion, "a champion and a challenger": challenger, "no champion": nobody}
        made: dict[str, Service] = {}

        def in_state(given: str) -> Service:
            if given not in made:
                made[given] = make[given]()
            return made[given]

        yield in_state


@pytest.mark.parametrize("example", examples_of("serving"), ids=str)
def test_serving_is_as_its_consumers_expect(example, states):
    example.run(states(example.given).client)
