"""Is a running Tandem a whole one? Asked from outside, over HTTP alone:  python -m deploy.smoke"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.table import Column, Table

from contracts.problems import plain_words
from contracts.requirements import load
from deploy.outsider import Outsider
from deploy.settings import DeploySettings

QUOTES_ASKED = 20
FIRST_COHORT_WITHIN_S = 300


@dataclass(frozen=True, slots=True)
class Verdict:
    """One line: what is required, the limit, what was measured."""

    requirement: str
    limit: str
    measured: str
    passed: bool


def verdicts(tandem: Outsider) -> Iterator[Verdict]:
    """Quotes are answered, outcomes are joined by monitoring that is up to date, a decision is recorded."""
    record = load()
    answered = record["quotes-without-serving"]
    share = sum(tandem.quote() is not None for _ in range(QUOTES_ASKED)) / QUOTES_ASKED
    yield Verdict(
        answered.id, answered.limit, f"{share * QUOTES_ASKED:.0f} of {QUOTES_ASKED} asked here", answered.passes(share)
    )
    watched = {line["id"]: line for line in tandem.get("monitoring", "/v1/requirements") or []}
    for kept in (record["outcome-join"], record["feed-freshness"]):
        line = watched.get(kept.id, {"measured": None, "of": 0})
        if line["measured"] is None:
            yield Verdict(kept.id, kept.limit, "nothing yet", False)
        else:
            words = f"{line['measured']:.3g} {kept.unit} of {line['of']:,}"
            yield Verdict(kept.id, kept.limit, words, kept.passes(line["measured"]))
    kinds = [event.data["kind"] for event in tandem.events("monitoring", "decisions")]
    yield Verdict("a decision is recorded", "at least 1", f"{len(kinds)}: {', '.join(kinds[-4:])}", bool(kinds))


def passes(settings: DeploySettings, console: Console) -> bool:
    """Check a running Tandem, print the table, answer whether all holds."""
    found = list(verdicts(Outsider(settings)))
    table = Table(Column("requirement", no_wrap=True), "limit", "measured", "")
    for line in found:
        table.add_row(
            line.requirement, line.limit, line.measured, "[green]kept[/]" if line.passed else "[red]MISSED[/]"
        )
    console.print(table)
    return all(line.passed for line in found)


def joined(tandem: Outsider) -> bool:
    """Whether monitoring has judged any outcome yet: the first cohort closes minutes after the first quote."""
    lines = tandem.get("monitoring", "/v1/requirements") or []
    return any(line["id"] == "outcome-join" and line["measured"] is not None for line in lines)


@plain_words()
def main() -> int:
    """Wait for the first judged outcome, within reason, then check. Exit status 0 when all holds."""
    settings, console = DeploySettings(), Console(soft_wrap=True)
    deadline = time.monotonic() + FIRST_COHORT_WITHIN_S
    with console.status("waiting for the first outcomes to be judged"):
        while not joined(Outsider(settings)) and time.monotonic() < deadline:
            time.sleep(2)
    return 0 if passes(settings, console) else 1


if __name__ == "__main__":
    sys.exit(main())
