"""Opening a database."""

from __future__ import annotations

import sys

import pytest
from sqlalchemy import MetaData

from chassis.databases import NoPostgresDriver, open_database


def test_postgres_without_its_driver_says_what_to_install_and_no_password(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)  # as where it is not installed

    with pytest.raises(NoPostgresDriver) as told:
        open_database("postgresql://tandem:secret@there/serving", MetaData())

    assert str(told.value) == (
        "postgresql://tandem:***@there/serving is on Postgres: pip install 'tandem-couriers[postgres]'"
    )
