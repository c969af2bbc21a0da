"""What serving's own environment has installed, how soon serving answers in it after its start, and its memory."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.report import Part, steps
from tests.benchmarks.serving import environments, goals, questions
from tests.benchmarks.serving.bench import Bench, table
from tests.benchmarks.serving.bursts import Spread
from tests.benchmarks.serving.candidate import VERSIONS, a_place, serving

ROOT = Path(__file__).parents[3]
OURS = {"tandem-couriers"}  # not counted: it is what is being served


def measure(bench: Bench) -> Part:
    """Starts in serving's own environment, with two bundles loaded, each on the state that the one before left."""
    starts_s, fresh_mb, worked_mb = [], [], []
    with steps(bench.console, "size", bench.plan.starts + 2) as step:
        step("environment")
        python = environment(bench.folder / "environment")
        packages = {name: weight for name, weight in environments.packages(python).items() if name not in OURS}
        command = (python, "-P", "-m", "serving")  # as installed there, not from the folder that we happen to be in
        var, manifest = a_place(bench.folder / "size", bench.bundle)
        asked = questions.estimates(questions.trips(manifest, questions.VARIANTS))
        step("two bundles")
        with serving(var, manifest, bench.cores, command) as first:
            first.control("challenge", VERSIONS[1])
        for number in range(bench.plan.starts):
            step(f"start {number + 1}")
            with serving(var, manifest, bench.cores, command) as found:
                starts_s.append(found.server.first_answer_s)
                fresh_mb.append(found.server.memory_mb())
                bench.generator.send(bench.closed(found.port, asked, 64))
                worked_mb.append(found.server.memory_mb())
    installed_mb = sum(packages.values()) / 1e6
    starts = Spread.of(starts_s)

    part = Part("size")
    made = table("size", "what", "measured")
    made.add_row(f"start to first answer, s, {bench.plan.starts} starts", starts.text())
    made.add_row("resident memory with two bundles, first answer, MB", f"{max(fresh_mb):.1f}")
    made.add_row("resident memory with two bundles, after 64 connections' load, MB", f"{max(worked_mb):.1f}")
    made.add_row("packages installed beside Tandem", str(len(packages)))
    made.add_row("their size, MB", f"{installed_mb:.1f}")
    for name, weight in sorted(packages.items(), key=lambda item: -item[1])[:5]:
        made.add_row(f"of it {name}", f"{weight / 1e6:.1f}")
    part.tables.append(made)
    part.figures |= {"starts_s": starts_s, "fresh_mb": fresh_mb, "worked_mb": worked_mb, "packages": packages}
    part.verdicts = [
        bench.judge(goals.START_S, starts.median, f"slowest {max(starts_s):.2f} s"),
        goals.WORKER_MB.judge(max(worked_mb), f"after load; {max(fresh_mb):.1f} MB before it"),
        goals.PACKAGES.judge(len(packages), "without Tandem itself and pip"),
        goals.ENVIRONMENT_MB.judge(installed_mb, "without Tandem itself and pip"),
    ]
    return part


def environment(folder: Path) -> Path:
    """The Python of an environment that holds only serving's extra, in the lock file's versions.

    Raises `environments.NotInstalled`.
    """
    return environments.made(folder, "-c", str(ROOT / "requirements.lock"), f"{ROOT}[serving]")
