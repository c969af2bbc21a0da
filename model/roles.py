"""Who serves, as serving's rollout feed tells it, shown as aliases in MLflow's registry."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

from sqlalchemy import Column, Connection, Engine, Integer, MetaData, String, Table, insert, select, update

from chassis.sql import reading
from contracts.estimates import RolloutChanged
from contracts.feeds import Event, payload

log = logging.getLogger(__name__)
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 600.0
LOOK_EVERY_S = 0.2


def roles_table(metadata: MetaData) -> Table:
    """Add the table of who serves, one row, to the worker's metadata; `shown` once MLflow knows."""
    return Table(
        "roles",
        metadata,
        Column("number", Integer, primary_key=True),
        Column("champion", String(64)),
        Column("challenger", String(64)),
        Column("shown", Integer, nullable=False, default=0),
    )


class Roles:
    """Hears who serves and lets MLflow know. MLflow failing loses nothing: it is told again, ever more rarely."""

    def __init__(self, engine: Engine, table: Table, nice: int) -> None:
        self.engine, self.table, self.nice = engine, table, nice
        self.pause_s, self.not_before = FIRST_PAUSE_S, 0.0

    def hear(self, tx: Connection, events: Sequence[Event]) -> None:
        """Remember who serves after these events of the rollout feed; seen again, they change nothing."""
        told = [said for said in map(payload, events) if isinstance(said, RolloutChanged)]
        if not told:
            return
        now = {"champion": told[-1].after.champion, "challenger": told[-1].after.challenger}
        known = tx.execute(select(self.table.c.champion, self.table.c.challenger)).first()
        if known is None:
            tx.execute(insert(self.table).values(number=1, shown=0, **now))
        elif now != known._asdict():
            tx.execute(update(self.table).values(shown=0, **now))

    def show(self, stop: threading.Event) -> None:
        """Tell MLflow who serves, if that has changed and it is time."""
        with reading(self.engine) as tx:
            query = select(self.table.c.champion, self.table.c.challenger).where(self.table.c.shown == 0)
            due = tx.execute(query).first()
        if due is None or time.monotonic() < self.not_before:
            return
        status = self._tell(due.champion, due.challenger, stop)
        if status == 0:
            self._shown(due.champion, due.challenger)
            self.pause_s, self.not_before = FIRST_PAUSE_S, 0.0
            log.info("MLflow shows champion %s, challenger %s", due.champion, due.challenger)
        elif not stop.is_set():
            log.warning("MLflow did not take who serves (status %d); again in %.0f s", status, self.pause_s)
            self.not_before = time.monotonic() + self.pause_s
            self.pause_s = min(2 * self.pause_s, LONGEST_PAUSE_S)

    def _tell(self, champion: str | None, challenger: str | None, stop: threading.Event) -> int:
        command = ["nice", "-n", str(self.nice), sys.executable, "-m", "model.aliases"]
        command += ["--champion", champion] if champion else []
        command += ["--challenger", challenger] if challenger else []
        process = subprocess.Popen(command)
        while process.poll() is None:
            if stop.wait(LOOK_EVERY_S):
                process.terminate()
        return process.returncode

    def _shown(self, champion: str | None, challenger: str | None) -> None:
        """Note that MLflow knows, unless another change came in meanwhile."""
        columns = self.table.c
        same = columns.champion.is_not_distinct_from(champion) & columns.challenger.is_not_distinct_from(challenger)
        with self.engine.begin() as tx:
            tx.execute(update(self.table).where(same).values(shown=1))
