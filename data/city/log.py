"""What the city writes down in its own database: incidents started, and how far its feed has got."""

from __future__ import annotations

from threading import Lock

from sqlalchemy import Column, Connection, Engine, Integer, MetaData, String, Table, Text, insert, select, update

from chassis.sql import reading
from contracts.problems import TandemError
from data.city import incidents
from data.city.incidents import Incident, Started

METADATA = MetaData()
INCIDENTS = Table(
    "incidents",
    METADATA,
    Column("number", Integer, primary_key=True),
    Column("asked", String(40), nullable=False),  # minutes since the epoch, as text so that no digit is lost
    Column("incident", Text, nullable=False),  # the file as it was then: a later edit must not change past truths
)
PUBLISHED = Table(
    "published", METADATA, Column("what", String(20), primary_key=True), Column("value", String(80), nullable=False)
)


class IncidentRuns(TandemError):
    """An incident is started that has not ended yet."""


class IncidentLog:
    """The incidents somebody started, oldest first. `started` is also right right after a restart."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.starting = engine, Lock()
        with reading(engine) as tx:
            rows = tx.execute(select(INCIDENTS).order_by(INCIDENTS.c.number)).all()
        self.started = tuple(Started(Incident.model_validate_json(row.incident), float(row.asked)) for row in rows)

    def start(self, name: str, now: float) -> Started:
        """Start an incident at a time in minutes since the epoch. Raises `UnknownIncident` or `IncidentRuns`."""
        new = Started(incidents.load(name), now)
        with self.starting:  # two starts at once cannot both find none running
            if any(old.incident.name == name and now < old.end for old in self.started):
                raise IncidentRuns(f"incident {name!r} was started already and has not ended: wait, or start another")
            with self.engine.begin() as tx:
                tx.execute(insert(INCIDENTS).values(asked=repr(now), incident=new.incident.model_dump_json()))
            self.started = (*self.started, new)
        return new


def published(tx: Connection, what: str) -> str | None:
    """The last published value of something, or None."""
    return tx.execute(select(PUBLISHED.c.value).where(PUBLISHED.c.what == what)).scalar()


def set_published(tx: Connection, what: str, value: str) -> None:
    """Remember what was published, in the transaction that publishes it."""
    if tx.execute(update(PUBLISHED).where(PUBLISHED.c.what == what).values(value=value)).rowcount == 0:
        tx.execute(insert(PUBLISHED).values(what=what, value=value))
