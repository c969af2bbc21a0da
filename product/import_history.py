"""Import history into an empty trips feed:  python -m product.import_history FILE"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Literal

from pydantic import TypeAdapter, ValidationError
from rich.progress import Progress
from sqlalchemy import insert, select

from chassis.clock import Clock
from chassis.databases import open_database
from contracts.feeds import Event
from contracts.problems import TandemError
from contracts.trips import CompletedTrip
from product.ledger import Ledger
from product.settings import Settings
from product.tables import FACTS, METADATA

BATCH = 5000
HEAD = '{"specversion":"1.0","id":"'


class CannotImport(TandemError):
    """History cannot become the start of the trips feed; nothing was imported."""


class PastEnd(Event):
    """A line of history: how one trip ended."""

    type: Literal["trip.delivered", "trip.cancelled", "trip.lost"]
    data: CompletedTrip  # type: ignore[assignment]  # narrower than any event's


LINE = TypeAdapter(PastEnd)


def import_history(path: Path, ledger: Ledger, progress: Progress) -> int | None:
    """Import every line in one transaction; answers how many, or None when this very file was imported before.

    Raises `CannotImport` for a line that is not as agreed and for a feed that has other events.
    """
    with path.open("rb") as file, ledger.engine.begin() as tx:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        before = tx.execute(select(FACTS.c.value).where(FACTS.c.name == "history")).scalar()
        if before == digest:
            return None
        if (last := ledger.trips_feed.last_id()) > 0:
            raise CannotImport(
                f"the trips feed has {last:,} events already: import into a fresh database, or not at all"
            )
        done, bar = 0, progress.add_task("history", total=path.stat().st_size)
        for lines in _batches(file):
            ends = [_read(line, number) for number, line in enumerate(lines, start=done + 1)]
            at = len(HEAD)
            ledger.trips_feed.append_encoded(
                tx, [(HEAD, line[line.index('"', at) :]) for line in (raw.decode().rstrip() for raw in lines)]
            )
            ledger.learn(tx, ends)
            done += len(lines)
            progress.advance(bar, sum(map(len, lines)))
        tx.execute(insert(FACTS).values(name="history", value=digest))
    return done


def _batches(lines: BinaryIO) -> Iterator[list[bytes]]:
    rows: Iterable[bytes] = iter(lines)
    while batch := list(islice(rows, BATCH)):
        yield batch


def _read(line: bytes, number: int) -> CompletedTrip:
    if not line.startswith(f'{HEAD}{number}",'.encode()):
        raise CannotImport(f'line {number} must start with {HEAD}{number}", got {line[:60]!r}: write the history anew')
    try:
        return LINE.validate_json(line).data
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise CannotImport(f"line {number}: {where}: {first['msg']}, got {first['input']!r:.80}") from error


def main(path: Path) -> None:
    """Import a file into the database that the settings name."""
    settings = Settings()
    engine = open_database(settings.database_url("product"), METADATA)
    with Progress() as progress:
        count = import_history(path, Ledger(engine, Clock.load(settings.clock_file).zone), progress)
        said = "this history is in the trips feed already" if count is None else f"{count:,} past trips imported"
        progress.console.print(f"product: {said}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m product.import_history FILE")
    try:
        main(Path(sys.argv[1]))
    except (TandemError, OSError) as error:
        sys.exit(f"product.import_history: {error}")
