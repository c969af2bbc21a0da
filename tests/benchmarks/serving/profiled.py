"""`python -m serving` under cProfile, each thread by itself:  python -m tests.benchmarks.serving.profiled FOLDER

Once it is told to end it leaves `FOLDER/<thread>.prof` for every thread. cProfile's own work makes it slower, most
where many small functions are called: read shares and calls here, and speed elsewhere.
"""

from __future__ import annotations

import cProfile
import signal
import sys
import threading
from pathlib import Path

from serving.__main__ import main as serve


class Profiles:
    """A profile for each thread, from its first call on."""

    def __init__(self) -> None:
        self.of: dict[str, cProfile.Profile] = {}

    def enter(self, *_: object) -> None:
        """Profile the thread that calls this; `threading.setprofile` has every new one do so."""
        name = threading.current_thread().name.replace(" ", "-")
        profile = self.of[name] = cProfile.Profile()
        profile.enable()

    def keep(self, folder: Path) -> None:
        """Write what was found."""
        for name, profile in self.of.items():
            profile.disable()
            profile.dump_stats(folder / f"{name}.prof")


def main(folder: str) -> None:
    """Serve until told to end, then keep the profiles."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # uvicorn raises it anew once it has drained
    profiles = Profiles()
    threading.setprofile(profiles.enter)
    profiles.enter()
    try:
        sys.argv = sys.argv[:1]
        serve()
    finally:
        profiles.keep(Path(folder))


if __name__ == "__main__":
    main(sys.argv[1])
