"""What must lie in `var` before a process starts: tokens, the imported history, the clock:  python -m deploy.prepare

Every step can be cut off and done again: the history file appears whole, and goes once it is imported.
"""

from __future__ import annotations

import subprocess
import sys
import time

from chassis.clock import Clock
from chassis.tokens import make_tokens
from contracts.problems import TandemError, plain_words
from deploy.settings import DeploySettings


class PreparationFailed(TandemError):
    """A step before the start failed; its own words stand above."""


def prepare(settings: DeploySettings) -> Clock:
    """Make `var` ready and start the clock: at the end of a new history, or where the city last wrote that it was."""
    try:
        settings.var.mkdir(mode=0o700, parents=True, exist_ok=True)  # customers' words lie there
        make_tokens(settings.tokens_file)
    except OSError as error:
        raise PreparationFailed(
            f"{error.filename} cannot be written ({error.strerror}): set TANDEM_VAR to a folder that can"
        ) from error
    history = settings.var / "history.jsonl"
    if not settings.clock_file.is_file():
        if not history.is_file():
            _run("data.history", "--weeks", str(settings.history_weeks), "--out", str(history))
        _new_clock(settings).save(settings.clock_file)
    if history.is_file():
        _run("product.import_history", str(history))
        history.unlink()  # the product's feed has it now
    clock = Clock.load(settings.clock_file).resumed(time.time(), settings.speed)
    clock.save(settings.clock_file)
    return clock


def _new_clock(settings: DeploySettings) -> Clock:
    return Clock(
        time_zone=settings.time_zone, city_start=settings.city_start, wall_start=time.time(), speed=settings.speed
    )


def _run(module: str, *arguments: str) -> None:
    """Run a team's own command as a process of its own, its output shown."""
    ended = subprocess.run([sys.executable, "-m", module, *arguments], check=False)
    if ended.returncode != 0:
        raise PreparationFailed(f"python -m {module} failed (exit {ended.returncode}); mend it and start again")


if __name__ == "__main__":
    with plain_words():
        clock = prepare(DeploySettings())
    print(f"prepared; in the city it is {clock.now():%A %H:%M}")
