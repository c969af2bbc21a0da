"""Run Tandem in the foreground:  python -m deploy.run [--for SECONDS]"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence

from rich.console import Console

from chassis.clock import Clock
from contracts.problems import TandemError
from deploy import smoke
from deploy.checklist import Checklist, steps
from deploy.outsider import Outsider
from deploy.ports import refuse_taken_ports
from deploy.prepare import prepare
from deploy.settings import DeploySettings
from deploy.supervisor import Stopped, Supervisor, Tandem

LOOK_EVERY_S = 0.25


class NeverOpened(TandemError):
    """The pages did not open, and nothing else can come of this start."""


def run(settings: DeploySettings, seconds: float | None, console: Console) -> bool:
    """Run until Ctrl-C (KeyboardInterrupt), or for some wall seconds from the first page on and then check.

    Answers whether that check passed.
    """
    clock = prepare(settings)
    console.print(f"Tandem starts on {clock.now():%A %H:%M} in its city, {clock.speed:g} times as fast as ours")
    with Tandem(settings) as tandem:
        _until_over(tandem, clock, settings, seconds, console)
        return smoke.passes(settings, console)


def _until_over(
    tandem: Tandem, clock: Clock, settings: DeploySettings, seconds: float | None, console: Console
) -> None:
    checklist = Checklist(steps(Outsider(settings)), console, f"{settings.var}/logs")
    opened: float | None = None  # monotonic second at which the pages were open
    with console.status("") as line:
        while seconds is None or opened is None or time.monotonic() < opened + seconds:
            tandem.check(console)
            checklist.look()
            if opened is None and checklist.waiting_for != "pages answer":
                opened = time.monotonic()
                print_pages(settings, console)
                tandem.start_rest()
            elif opened is None:
                _refuse_to_wait(tandem, checklist, seconds)
            wait = f"waiting for: {checklist.waiting_for}" if checklist.todo else "Ctrl-C ends Tandem"
            line.update(f"{clock.now():%A %H:%M} in the city · {wait}")
            time.sleep(LOOK_EVERY_S)


def _refuse_to_wait(tandem: Tandem, checklist: Checklist, seconds: float | None) -> None:
    """Raise `NeverOpened` where the pages cannot open any more; for a run of some seconds, where they are overdue."""
    log = tandem.log("product")
    if "product" in tandem.given_up:
        raise NeverOpened(f"product does not start: the end of {log} says why; mend it, then `make run` goes on")
    if seconds is not None and checklist.overdue:
        raise NeverOpened(f"the pages did not open in time: see {log}; mend it, then `make run` goes on")


def print_pages(settings: DeploySettings, console: Console) -> None:
    """Where people and logs are."""
    console.print(
        f"  customers    {settings.url('product')}/\n"
        f"  dispatchers  {settings.url('product')}/dispatch  (staff token: `staff` in {settings.tokens_file})\n"
        f"  quality      {settings.url('monitoring')}/\n"
        f"  logs         {settings.var}/logs/",
        highlight=False,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The launcher's exit status: 0 after Ctrl-C, `make stop` or a passed check, 1 after a fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--for", dest="seconds", type=float, help="end by itself after so many seconds, then check")
    seconds = parser.parse_args(arguments).seconds
    console = Console(soft_wrap=True)
    for number in (signal.SIGINT, signal.SIGTERM):  # both end Tandem in order, even where a shell ignores SIGINT
        signal.signal(number, signal.default_int_handler)
    try:
        settings = DeploySettings()
        Supervisor(settings).refuse_a_second()
        refuse_taken_ports(settings)
        return 0 if run(settings, seconds, console) else 1
    except KeyboardInterrupt:
        console.print("Tandem has ended; `make run` goes on from here")
        return 0 if seconds is None else 130
    except Stopped as end:
        console.print(str(end))
        return 0 if seconds is None else 1
    except TandemError as error:
        console.print(f"[red]{error}[/]")
    return 1


if __name__ == "__main__":
    sys.exit(main())
