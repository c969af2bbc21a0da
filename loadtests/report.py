"""What a load test measured, held against the requirement record: as a table, JSON and a page."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from contracts.requirements import Load, Requirements

POPULATION = "steady-quotes"


@dataclass(frozen=True, slots=True)
class Measured:
    """What one run measured. Latencies in ms; memory in MB per serving worker, by process id."""

    quotes_answered: int
    quotes_failed: int
    quotes_by_model: int
    estimates_answered: int
    served_samples: int
    served_p95_ms: float
    served_p99_ms: float
    client_p95_ms: float
    client_p99_ms: float
    quote_p95_ms: float
    quote_p99_ms: float
    memory_mb: dict[int, float]


@dataclass(frozen=True, slots=True)
class Line:
    """One verdict."""

    requirement: str
    measure: str
    limit: str
    measured: str
    passed: bool


def verdicts(measured: Measured, record: Requirements) -> list[Line]:
    """Every requirement of this load, and what makes the run count at all."""
    load: Load = record.load[POPULATION]
    arrivals = measured.quotes_answered / (load.arrivals_per_s * load.duration_s)
    samples = min(measured.served_samples, measured.estimates_answered, measured.quotes_answered)
    lines = [
        Line(
            "the run counts",
            f"quotes answered, of {load.arrivals_per_s:g}/s for {load.duration_s:g} s",
            f"at least {load.least_arrival_share:.0%}",
            f"{arrivals:.1%}",
            arrivals >= load.least_arrival_share,
        ),
        Line(
            "the run counts",
            "samples of each kind",
            f"at least {load.least_samples:,}",
            f"{samples:,}",
            samples >= load.least_samples,
        ),
    ]
    for requirement_id, measure, value in (
        ("estimate-latency-p95", "by serving's histogram", measured.served_p95_ms),
        ("estimate-latency-p95", "by the client", measured.client_p95_ms),
        ("estimate-latency-p99", "by serving's histogram", measured.served_p99_ms),
        ("estimate-latency-p99", "by the client", measured.client_p99_ms),
    ):
        kept = record[requirement_id]
        lines.append(Line(requirement_id, measure, kept.limit, f"{value:.1f} ms", kept.passes(value)))
    kept = record["serving-memory"]
    for pid, resident in measured.memory_mb.items() or [(0, float("nan"))]:
        lines.append(Line(kept.id, f"worker {pid}, highest", kept.limit, f"{resident:.0f} MB", kept.passes(resident)))
    return lines


def show(lines: Sequence[Line], measured: Measured, console: Console) -> None:
    """Print the table."""
    table = Table("requirement", "measured how", "limit", "measured", "")
    for line in lines:
        mark = "[green]kept[/]" if line.passed else "[red]MISSED[/]"
        table.add_row(line.requirement, line.measure, line.limit, line.measured, mark)
    console.print(table)
    console.print(
        f"beside it: a whole quote took p95 {measured.quote_p95_ms:.0f} ms, p99 {measured.quote_p99_ms:.0f} ms; "
        f"{measured.quotes_by_model:,} of {measured.quotes_answered:,} quotes were shown the model's estimate",
        highlight=False,
    )


def write(lines: Sequence[Line], measured: Measured, folder: Path) -> None:
    """Write `loadtest.json` and `loadtest.html`."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"load": POPULATION, "verdicts": [asdict(line) for line in lines], "measured": asdict(measured)}
    (folder / "loadtest.json").write_text(json.dumps(content, indent=1))
    rows = "".join(
        f"<tr class={'kept' if line.passed else 'missed'}>"
        + "".join(f"<td>{html.escape(cell)}" for cell in (line.requirement, line.measure, line.limit, line.measured))
        + f"<td>{'kept' if line.passed else 'missed'}"
        for line in lines
    )
    (folder / "loadtest.html").write_text(
        "<!doctype html><html lang=en><meta charset=utf-8><title>Load test</title>"
        "<style>body{font:16px system-ui;margin:2rem}td,th{padding:.3rem .8rem;text-align:left}"
        ".missed{background:#fdd}.kept{background:#dfd}</style>"
        f"<h1>Load test: {POPULATION}</h1><table><tr><th>requirement<th>measured how<th>limit<th>measured<th>verdict"
        f"{rows}</table>"
    )
