"""Run a command and tell its peak memory:  python -m tests.benchmarks.peak COMMAND ...

A started process counts its starter's peak as its own: the kernel keeps the highest resident size across exec. So
whoever has grown large must not start what is to be weighed; this small one does. Ends as the command did, after one
line on standard output: the peak in MB.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

MB = 1e6 if sys.platform == "darwin" else 1e3  # of the unit that the system counts in


def weighed(command: Sequence[str], environment: Mapping[str, str], log: Path) -> tuple[int, float]:
    """Exit status and peak memory in MB of a command, its children's included; what it prints goes to `log`."""
    asked = [sys.executable, "-m", "tests.benchmarks.peak", str(log), *command]
    told = subprocess.run(asked, env=os.environ | environment, stdout=subprocess.PIPE, text=True, check=False)
    return told.returncode, float(told.stdout)


def main(log: str, *command: str) -> int:
    """Exit status: the command's."""
    with Path(log).open("w") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)
        _, status, used = os.wait4(process.pid, 0)  # this one process's figures, unlike getrusage's
    process.returncode = os.waitstatus_to_exitcode(status)
    print(used.ru_maxrss / MB)  # noqa: T201
    return process.returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
