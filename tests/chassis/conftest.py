"""Databases as teams open them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, MetaData

from chassis.databases import open_database
from chassis.drivers import DriverDatabase
from tests.postgres import postgres


def by_sqlalchemy(url: str) -> Engine:
    """As teams with tables of their own do."""
    return open_database(url, MetaData())


BOTH_WAYS = (by_sqlalchemy, DriverDatabase)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database nobody has opened yet."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/some folder/some.db"
    else:
        with postgres(tmp_path) as server:
            yield server
