"""Recompute every stored tick from its stored closing:  python -m monitoring.replay

Prints each tick whose evidence, digest or verdict comes out differently and exits 1 if there is any.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from sqlalchemy import Engine, select

from chassis.databases import open_database
from chassis.sql import reading
from contracts import requirements
from contracts.requirements import Requirements
from monitoring.closings import references
from monitoring.ledger import TABLES, TICKS, instant
from monitoring.settings import Settings
from monitoring.ticks import CLOSING, VERDICT, evaluate
from monitoring.watch import Watch


def differences(engine: Engine, record: Requirements) -> Iterator[tuple[str, str]]:
    """Each stored tick's cohort, with what differs when it is computed again; "" where nothing does."""
    with reading(engine) as tx:
        watch = Watch(record, {})
        for row in tx.execute(select(TICKS).order_by(TICKS.c.cohort)):
            watch.references = references(tx, instant(row.at))
            again = evaluate(watch, CLOSING.validate_json(row.closing))
            verdict = VERDICT.validate_json(row.verdict)
            found = []
            if again.digest != row.digest:
                found.append(f"evidence digest {row.digest[:12]}, now {again.digest[:12]}")
            if again.verdict != verdict:
                found.append(f"decision {verdict.kind}, now {again.verdict.kind}: {'; '.join(again.verdict.reasons)}")
            yield instant(row.cohort).isoformat(), ", ".join(found)


if __name__ == "__main__":
    settings = Settings()
    told = list(differences(open_database(settings.database_url("monitoring"), TABLES), requirements.load()))
    wrong = [f"{cohort}: {difference}\n" for cohort, difference in told if difference]
    sys.stdout.writelines([*wrong, f"{len(told)} ticks replayed, {len(wrong)} differ\n"])
    sys.exit(1 if wrong else 0)
