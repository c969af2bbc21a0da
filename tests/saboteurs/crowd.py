"""The load test's users on one serving process:  python -m tests.saboteurs.crowd PID. Prints the verdicts as JSON."""

from __future__ import annotations

import json
import sys

import psutil

from contracts.requirements import load
from loadtests import report, run  # first: gevent has to patch before anything opens a socket
from loadtests.settings import TrafficSettings
from loadtests.steady import SteadyEstimates


def main() -> None:
    """Measure, judge as `make loadtest` does, and tell."""
    record, settings = load(), TrafficSettings()
    worker = psutil.Process(int(sys.argv[1]))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    measured = run.measure(settings, lambda: [worker], record.load["prove"], [SteadyEstimates])
    lines = report.verdicts(measured, record, record.load["prove"])
    told = [(item.requirement, item.value, item.passed, item.note) for item in report.measurements_of(lines, record)]
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main()
