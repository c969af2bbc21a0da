"""What a load test measured, held against the requirement record."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

from contracts.measurements import Measurement
from contracts.requirements import Load, Requirements

POPULATION = "steady-quotes"


@dataclass(frozen=True, slots=True)
class Latency:
    """How long one kind of request took, as one observer saw it. `samples` are those answered; a client's percentiles
    tell of failed requests, too, for locust keeps the times of all in one."""

    observer: str
    samples: int
    p95_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Measured:
    """What one run measured: whole quotes, estimates as serving and a client saw them, MB per serving worker by pid."""

    quotes: Latency | None  # None where the run sent nobody to the product
    quotes_by_model: int
    by_serving: Latency
    by_client: Latency
    memory_mb: dict[int, float]


@dataclass(frozen=True, slots=True)
class Line:
    """One verdict."""

    requirement: str
    how: str
    limit: str
    measured: str
    passed: bool
    value: float = float("nan")  # in the requirement's unit; what makes a run count is no requirement


def verdicts(measured: Measured, record: Requirements, load: Load) -> list[Line]:
    """What makes the run count at all, then every requirement of this load."""
    lines = []
    if measured.quotes is not None:
        arrived = measured.quotes.samples / (load.arrivals_per_s * load.duration_s)
        wanted, enough = f"at least {load.least_arrival_share:.0%}", arrived >= load.least_arrival_share
        how = f"quotes answered of {load.arrivals_per_s:g}/s"
        lines.append(Line("the run counts", how, wanted, f"{arrived:.1%}", enough))
    for seen in filter(None, (measured.quotes, measured.by_serving, measured.by_client)):
        wanted, enough = f"at least {load.least_samples:,}", seen.samples >= load.least_samples
        lines.append(Line("the run counts", f"samples: {seen.observer}", wanted, f"{seen.samples:,}", enough))

    def line(requirement_id: str, how: str, value: float, shown: str) -> Line:
        kept = record[requirement_id]
        return Line(kept.id, how, kept.limit, shown, kept.passes(value), value)

    rate = measured.by_client.samples / load.duration_s
    lines.append(line("estimate-throughput", measured.by_client.observer, rate, f"{rate:.1f}/s"))
    for seen in (measured.by_serving, measured.by_client):
        for requirement_id, value in (("estimate-latency-p95", seen.p95_ms), ("estimate-latency-p99", seen.p99_ms)):
            lines.append(line(requirement_id, seen.observer, value, f"{value:.1f} ms"))
    for pid, mb in measured.memory_mb.items() or [(0, float("nan"))]:
        lines.append(line("serving-memory", f"worker {pid}, highest", mb, f"{mb:.0f} MB"))
    return lines


def measurements_of(lines: Sequence[Line], record: Requirements) -> Iterator[Measurement]:
    """The lines about requirements, as every check leaves its verdicts."""
    known = {item.id for item in record.all()}
    void = [line.how for line in lines if line.requirement not in known and not line.passed]
    for line in lines:
        if line.requirement in known:
            note = f"the run does not count: {', '.join(void)}" if void else line.how
            yield Measurement.of(line.requirement, "load test", line.value, line.passed and not void, note)


def publish(lines: Sequence[Line], measured: Measured, folder: Path, record: Requirements) -> None:
    """Print the table, and write it as `loadtest.html` and, with all figures, as `loadtest.json`."""
    console = Console(record=True)
    table = Table(
        Column("requirement", no_wrap=True), "measured how", "limit", "measured", "", title=f"Load test: {POPULATION}"
    )
    for line in lines:
        mark = "[green]kept[/]" if line.passed else "[red]MISSED[/]"
        table.add_row(line.requirement, line.how, line.limit, line.measured, mark)
    console.print(table)
    for item in measurements_of(lines, record):
        if not item.passed:
            console.print(f"[red]✗[/] {record[item.requirement].missed(item.value)}", highlight=False)
    if (quotes := measured.quotes) is not None:
        by_model = measured.quotes_by_model / max(1, quotes.samples)
        console.print(
            f"a whole quote: p95 {quotes.p95_ms:.0f} ms, p99 {quotes.p99_ms:.0f} ms; {by_model:.1%} by the model"
        )
    folder.mkdir(parents=True, exist_ok=True)
    console.save_html(str(folder / "loadtest.html"))
    content = {"load": POPULATION, "verdicts": [asdict(line) for line in lines], "measured": asdict(measured)}
    (folder / "loadtest.json").write_text(json.dumps(content, indent=1))
