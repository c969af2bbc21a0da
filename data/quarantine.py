"""Quarantine: rows that intake refused, each with the rule it broke, the value at fault and the row as it came.

One file of JSON lines per batch. `python -m data.quarantine` counts them by rule.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from contracts.problems import plain_words


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that intake did not accept."""

    rule: str
    value: Any
    row: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Quarantine:
    """The folder of refused rows: `<folder>/<batch>.jsonl`."""

    folder: Path

    def write(self, batch_id: str, refused: Sequence[Refused]) -> None:
        """Keep a batch's refused rows; writing the same batch again replaces it."""
        if not refused:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = (json.dumps({"rule": item.rule, "value": item.value, "row": item.row}, default=str) for item in refused)
        (self.folder / f"{batch_id}.jsonl").write_text("".join(f"{line}\n" for line in lines))

    def read(self) -> Iterator[Refused]:
        """Every refused row, batch by batch."""
        for path in sorted(self.folder.glob("*.jsonl")):
            for line in path.read_text().splitlines():
                yield Refused(**json.loads(line))

    def keep_only(self, batches: Collection[str]) -> None:
        """Remove what a crash left behind: files of batches that were never committed."""
        for path in self.folder.glob("*.jsonl"):
            if path.stem not in batches:
                path.unlink()


def table_of(counts: Counter[str], title: str) -> Table:
    """Counts by rule, most frequent first, as a table for people."""
    table = Table("rule", "rows", title=title)
    table.columns[1].justify = "right"
    for rule, rows in counts.most_common():
        table.add_row(rule, f"{rows:,}")
    return table


@plain_words()
def main() -> None:
    """Print how many rows each rule has refused."""
    from data.settings import Settings

    folder = Settings().quarantine
    counts = Counter(item.rule for item in Quarantine(folder).read())
    Console().print(table_of(counts, f"{counts.total():,} rows in {folder}"))


if __name__ == "__main__":
    main()
