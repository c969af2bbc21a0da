"""What must lie in `var` before a process starts: tokens, the imported history, the clock.

`python -m deploy.prepare` prepares and then keeps the clock until it is told to end (docker-compose.yml does it so).
Every step can be cut off and done again: a file appears whole, by renaming, and the history goes once it is imported.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time

from chassis.tokens import make_tokens
from contracts.clock import Clock
from contracts.problems import TandemError
from deploy.settings import DeploySettings

KEEP_EVERY_S = 1.0


class PreparationFailed(TandemError):
    """A step before the start failed; its own words stand above."""


def prepare(settings: DeploySettings) -> Clock:
    """Make `var` ready and start the clock: at the end of a new history, or where an earlier run was left."""
    make_tokens(settings.tokens_file)
    history = settings.var / "history.jsonl"
    if not settings.clock_file.is_file():
        if not history.is_file():
            part = history.with_suffix(".part")
            _run("data.history", "--weeks", str(settings.history_weeks), "--out", str(part))
            part.replace(history)
        _new_clock(settings).save(settings.clock_file)
    if history.is_file():
        _run("product.import_history", str(history))
        history.unlink()  # the product's feed has it now
    clock = Clock.load(settings.clock_file).resumed(time.time(), settings.speed)
    keep(clock, settings)
    return clock


def keep(clock: Clock, settings: DeploySettings) -> None:
    """Write down the city's instant, so that a warm start resumes there."""
    clock.seen_at(clock.now()).save(settings.clock_file)


def _new_clock(settings: DeploySettings) -> Clock:
    return Clock(
        time_zone=settings.time_zone, city_start=settings.city_start, wall_start=time.time(), speed=settings.speed
    )


def _run(module: str, *arguments: str) -> None:
    """Run a team's own command as a process of its own, its output shown."""
    ended = subprocess.run([sys.executable, "-m", module, *arguments], check=False)
    if ended.returncode != 0:
        raise PreparationFailed(f"python -m {module} failed (exit {ended.returncode}); mend it and start again")


def main() -> None:
    """Prepare, then keep the clock until SIGTERM or SIGINT."""
    settings = DeploySettings()
    try:
        clock = prepare(settings)
        print(f"prepared {settings.var}: the city stands at {clock.now():%A %H:%M}", flush=True)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        while True:
            keep(clock, settings)
            time.sleep(KEEP_EVERY_S)
    except TandemError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        keep(clock, settings)


if __name__ == "__main__":
    main()
