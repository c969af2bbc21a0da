"""Prove that every requirement's check can fail:  python -m tests.saboteurs [class ...]

Each class of checks runs as it is, then once under each of its saboteurs, then as it is again. The proof holds when
every honest run is green, each saboteur turns its own requirement red and no unrelated one, and every requirement has a
saboteur in each class that checks it.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

from rich.console import Console
from rich.table import Table

from chassis.addresses import Addresses
from contracts.measurements import Measurement, keep, kept
from contracts.requirements import Requirements, load
from tests.saboteurs import door, gate, shop, stream
from tests.saboteurs import load as under_load

CLASSES: dict[str, ModuleType] = {
    "contract": door,
    "stream": stream,
    "gate": gate,
    "load": under_load,
    "system": shop,
}
PROFILE = "short profile: "
PATIENT = ("gate",)  # busy with no clock but its own: runs beside the contract and the stream class


def main(asked: Sequence[str]) -> int:
    """Exit status: 0 when the proof holds."""
    record, console, began = load(), Console(width=None if sys.stdout.isatty() else 150), time.monotonic()
    if unknown := sorted(set(asked) - set(CLASSES)):
        sys.exit(f"no class of checks is called {', '.join(unknown)}: there are {', '.join(CLASSES)}")
    names = [name for name in CLASSES if not asked or name in asked]
    faults = missing(record) if not asked else []
    table = Table("class", "saboteur", "requirement", "limit", "honest", "sabotaged", "", "s", title="make prove")
    with ThreadPoolExecutor(1) as aside:
        patient = {name: aside.submit(prove, name, record, console) for name in names if name in PATIENT}
        told: dict[str, list[Row]] = {}
        for name in names:
            if name in {"load", "system"}:  # they time things: nothing may run beside them
                for other in patient.values():
                    other.result()
            told[name] = patient[name].result() if name in patient else prove(name, record, console)
    for rows in told.values():
        for row in rows:
            table.add_row(*row.cells)
            faults += row.faults
    console.print(table)
    for fault in faults:
        console.print(f"[red]✗[/] {fault}", highlight=False)
    console.print(f"{sum(len(rows) for rows in told.values())} lines in {time.monotonic() - began:.0f} s")
    return 1 if faults else 0


class Row:
    """One saboteur's line in the matrix, and what is wrong with the proof it gives."""

    def __init__(self, cells: Sequence[str], faults: Sequence[str] = ()) -> None:
        self.cells, self.faults = cells, faults


def missing(record: Requirements) -> list[str]:
    """Requirements that a kind of check claims and no saboteur of that kind's class breaks; saboteurs of nothing."""
    faults, known = [], set()
    for name, module in CLASSES.items():
        known |= set(module.SABOTEURS)
        for requirement in record.all():
            kinds = sorted(set(module.KINDS) & set(requirement.checked_by))
            own = {key for key, saboteur in module.SABOTEURS.items() if saboteur.breaks == requirement.id}
            if kinds and not own & set(requirement.saboteurs):
                faults.append(f"{requirement.id} is checked by {', '.join(kinds)}, and no saboteur of {name} breaks it")
            faults += [
                f"{key} breaks {requirement.id}, which does not name it" for key in own - set(requirement.saboteurs)
            ]
    named = {key for requirement in record.all() for key in requirement.saboteurs}
    return faults + [f"requirement record names saboteur {key}, which does not exist" for key in sorted(named - known)]


def prove(name: str, record: Requirements, console: Console) -> list[Row]:
    """Run a class honestly, under each saboteur, and honestly again."""
    module = CLASSES[name]
    began = time.monotonic()
    honest = run(module, None)
    _leave(honest)
    took = time.monotonic() - began
    rows = [_honest(name, "before", honest, record, took)]

    def sabotage(key: str) -> Row:
        console.print(f"{name}: {key}: {module.SABOTEURS[key].says}", highlight=False)
        started = time.monotonic()
        return _judge(name, key, module, honest, run(module, key), record, time.monotonic() - started)

    slow = [key for key, saboteur in module.SABOTEURS.items() if saboteur.outlasts_a_limit]
    with ThreadPoolExecutor(1) as waiting:
        held_up = [waiting.submit(sabotage, key) for key in slow]
        rows += [sabotage(key) for key in module.SABOTEURS if key not in slow]
        rows += [row.result() for row in held_up]
    began = time.monotonic()
    rows.append(_honest(name, "after", run(module, None), record, time.monotonic() - began))
    return rows


def _honest(name: str, when: str, measured: list[Measurement], record: Requirements, took_s: float) -> Row:
    faults = [
        f"{name}, with nothing sabotaged ({when}): {record[item.requirement].missed(item.value)} {item.note}"
        for item in measured
        if not item.passed
    ]
    known = len({item.requirement for item in measured})
    verdict = "[red]RED[/]" if faults else "[green]green[/]"
    return Row([name, f"none, {when}", f"{known} requirements", "", "", "", verdict, f"{took_s:.0f}"], faults)


def _leave(honest: Sequence[Measurement]) -> None:
    """Leave honest verdicts, marked as a profile's, where no check at full length has left its own."""
    folder = Addresses().measured
    whole = {(item.requirement, item.check) for item in kept(folder) if not item.note.startswith(PROFILE)}
    own = [item for item in honest if (item.requirement, item.check) not in whole]
    keep([item.model_copy(update={"note": f"{PROFILE}{item.note}"}) for item in own], folder)


def run(module: ModuleType, saboteur: str | None) -> list[Measurement]:
    """One profile."""
    measured: list[Measurement] = module.profile(saboteur)
    return measured


def _judge(
    name: str,
    key: str,
    module: ModuleType,
    honest: list[Measurement],
    sabotaged: list[Measurement],
    record: Requirements,
    took_s: float,
) -> Row:
    saboteur = module.SABOTEURS[key]
    requirement = record[saboteur.breaks]
    red = {item.requirement for item in sabotaged if not item.passed}
    faults = []
    if saboteur.breaks not in red:
        faults.append(f"{name}: {key} ({saboteur.says}) leaves {saboteur.breaks} green: its check cannot fail")
    if unrelated := red - {saboteur.breaks} - saboteur.drags:
        faults.append(f"{name}: {key} turns {', '.join(sorted(unrelated))} red, which it has nothing to do with")
    before, after = (_worst(saboteur.breaks, found) for found in (honest, sabotaged))
    if not math.isfinite(before):
        faults.append(f"{name}: without {key}, {saboteur.breaks} was not judged at all: lengthen the profile")
    verdict = "[red]NO PROOF[/]" if faults else "[green]goes red[/]"
    cells = [name, key, requirement.id, requirement.limit, f"{before:,.4g}", f"{after:,.4g}", verdict, f"{took_s:.0f}"]
    return Row(cells, faults)


def _worst(requirement: str, measured: list[Measurement]) -> float:
    """The value that decided: of a failed verdict, else of the last."""
    own = [item for item in measured if item.requirement == requirement]
    return next((item.value for item in own if not item.passed), own[-1].value if own else float("nan"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
