"""Serving under a wall clock that somebody sets:  python -m tests.chaos.jumping_clock

By how many seconds the clock is off is in the file `clock-off-by` beside the clock's own, read at each look. All that
asks Python's `time` is fooled; nobody needs the right to set this machine's clock.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

OFF_BY = "clock-off-by"


def main() -> None:
    """Set the clock going, then serve."""
    off_by, wall, wall_ns = Path(os.environ["TANDEM_VAR"]) / OFF_BY, time.time, time.time_ns

    def seconds() -> int:
        return int(off_by.read_text()) if off_by.exists() else 0

    time.time = lambda: wall() + seconds()
    time.time_ns = lambda: wall_ns() + seconds() * 10**9
    from serving.__main__ import main as serve

    serve()


if __name__ == "__main__":
    main()
