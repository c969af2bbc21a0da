"""A database as chassis uses one: as much of SQLAlchemy's engine as feeds need.

So a team brings either that engine (`chassis.databases`) or, where memory and every microsecond count, the driver alone
(`chassis.drivers`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol, TypeVar

from contracts.problems import TandemError

CREATES = 0x7A2D  # names the lock under which tables are made; any number that nothing else locks


class DatabaseAway(TandemError):
    """A database is locked, can't be reached, or will not do its work now. Another time it may."""


class NoPostgresDriver(TandemError):
    """A database's URL names Postgres, and what speaks to it is not installed."""

    def __init__(self, url: str) -> None:
        super().__init__(f"{url} is on Postgres: pip install 'tandem-couriers[postgres]'")


class Rows(Protocol):
    """What a statement found."""

    def fetchall(self) -> Sequence[Any]:
        """Every row, as a sequence."""


class Transaction(Protocol):
    """A transaction under way."""

    def exec_driver_sql(self, statement: str, parameters: tuple[Any, ...] = (), /) -> Rows:
        """Run one statement in the driver's own words, see `marked`."""


T_co = TypeVar("T_co", bound=Transaction, covariant=True)


class Database(Protocol[T_co]):
    """Makes transactions. Failing ones raise `DatabaseAway` where another time they may not."""

    @property
    def name(self) -> str:
        """`sqlite` or `postgresql`."""

    def begin(self) -> AbstractContextManager[T_co]:
        """A transaction that commits at its end, or rolls back what it did where it raises."""

    def execution_options(self, *, reads_only: bool) -> Database[T_co]:
        """The same, for transactions that only read."""


T = TypeVar("T", bound=Transaction)


@contextmanager
def reading(database: Database[T]) -> Iterator[T]:
    """A transaction that only reads, and so waits for no writer."""
    with database.execution_options(reads_only=True).begin() as tx:
        yield tx


def marked(database: Database[Any], statement: str) -> str:
    """A statement with `?` where parameters go, in the driver's own words."""
    return statement if database.name == "sqlite" else statement.replace("?", "%s")


def create(database: Database[Any], *statements: str) -> None:
    """Make what is not there yet. Postgres lets two at once fail over `IF NOT EXISTS`, so that one waits."""
    with database.begin() as tx:
        if database.name == "postgresql":
            tx.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (CREATES,)).fetchall()
        for statement in statements:
            tx.exec_driver_sql(statement)
