"""The start's checklist: what comes up in which order, and how long each may take before we say that it hangs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console

from deploy.outsider import Outsider


@dataclass(frozen=True, slots=True)
class Step:
    """`look` answers a few words once the step is done. `within_s` counts from the end of the step before."""

    name: str
    process: str
    within_s: float
    look: Callable[[], str | None]


def steps(tandem: Outsider) -> list[Step]:
    """From the first page to the first quote by the model, in the order in which they can happen."""

    def quoted(*sources: str) -> str | None:
        quote = tandem.quote()
        return f"there in {quote.promised_min:.0f} min" if quote and quote.source in sources else None

    def decided() -> str | None:
        return next((event.data["kind"] for event in tandem.events("monitoring", "decisions")), None)

    def cut() -> str | None:
        made = [event for event in tandem.events("data", "snapshots", limit=5000) if event.type == "snapshot.made"]
        return f"{made[0].data['rows']:,} trips" if made else None

    def trained() -> str | None:
        for event in tandem.events("model", "bundles", limit=1):
            if event.type == "bundle.released":
                return f"released {event.data['version']}"
            return f"refused: {event.data['reasons'][0]}"
        return None

    return [
        Step("pages answer", "product", 60, lambda: "" if tandem.ready("product") else None),
        Step("first quote", "product", 30, lambda: quoted("model", "fallback")),
        Step("first decision", "monitoring", 180, decided),
        Step("snapshot of the history", "data", 90, cut),
        Step("model trained and judged by its gate", "model", 240, trained),
        Step("model serves", "serving", 30, lambda: "" if tandem.ready("serving") else None),
        Step("first quote by the model", "product", 30, lambda: quoted("model")),
    ]


class Checklist:
    """Ticks steps off as they are done, printing each, and names the one that hangs."""

    def __init__(self, todo: list[Step], console: Console, logs: str) -> None:
        self.todo, self.console, self.logs = list(todo), console, logs
        self.since = time.monotonic()
        self.overdue = False  # the step that comes next, and we have said so

    def look(self) -> None:
        """Tick off whatever is done now."""
        while self.todo:
            step, waited_s = self.todo[0], time.monotonic() - self.since
            found = step.look()
            if found is None:
                if waited_s > step.within_s and not self.overdue:
                    self.overdue = True
                    self.console.print(
                        f"[red]✗[/] {step.name}: not yet after {waited_s:.0f} s; see {self.logs}/{step.process}.log"
                    )
                return
            self.console.print(f"[green]✓[/] {step.name:<42}{found:<24}{waited_s:6.1f} s", highlight=False)
            del self.todo[0]
            self.since, self.overdue = time.monotonic(), False

    @property
    def waiting_for(self) -> str:
        """The step that comes next, '' when all are done."""
        return self.todo[0].name if self.todo else ""
