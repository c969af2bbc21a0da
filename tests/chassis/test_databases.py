"""Opening a database."""

from __future__ import annotations

import sys

import pytest
from sqlalchemy import MetaData

from chassis.databases import NoPostgresDriver, open_database, reading


def test_postgres_without_its_driver_says_what_to_install_and_no_password(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)  # as where it is not installed

    with pytest.raises(NoPostgresDriver) as told:
        open_database("postgresql://tandem:secret@there/serving", MetaData())

    assert str(told.value) == (
        "postgresql://tandem:***@there/serving is on Postgres: pip install 'tandem-couriers[postgres]'"
    )


def test_every_connection_to_sqlite_caches_as_much_as_it_is_told(tmp_path):
    engine = open_database(f"sqlite:///{tmp_path}/some.db", MetaData(), cache_kib=256)

    with reading(engine) as one, reading(engine) as other:
        found = [it.exec_driver_sql("PRAGMA cache_size").scalar() for it in (one, other)]

    assert found == [-256, -256]
