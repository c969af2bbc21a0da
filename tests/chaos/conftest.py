"""A place for each fault, and one table of all at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.bundles import make_bundle
from tests.chaos.report import Row, judged, written
from tests.serving.conftest import Place, a_place

ROWS = pytest.StashKey[list[Row]]()


@pytest.fixture
def place(tmp_path) -> Iterator[Place]:
    """Where bundle 1, two minutes a kilometre, is about to be champion."""
    with a_place(tmp_path) as place:
        place.upstream.release(make_bundle(place.bundles, "1"))
        yield place


@pytest.fixture
def told(request) -> Callable[..., Row]:
    """`judged`, whose row goes into the table, too."""

    def tell(*what) -> Row:
        row = judged(*what)
        request.config.stash.setdefault(ROWS, []).append(row)
        return row

    return tell


def pytest_terminal_summary(terminalreporter, config) -> None:
    """The table, once all is over."""
    if rows := config.stash.get(ROWS, []):
        terminalreporter.write_line("")
        terminalreporter.write_line(written(rows))
