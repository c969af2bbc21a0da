"""Each team's part stands alone: its extra in a clean environment, its folder beside contracts/ and chassis/, no other.

All test modules of the team must import there; of the tests, those listed here run: a whole team's would take minutes
more and say no more about its boundary.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEST_TOOLS = ["pytest", "pytest-timeout", "pytest-xdist", "hypothesis", "filelock", "httpx"]
BUILD_TOOLS = ["hatchling", "editables"]
HEAVY = ("torch", "mlflow", "pandas", "polars", "pandera", "onnxruntime", "locust", "jinja2", "sqlalchemy")


@dataclass(frozen=True)
class Part:
    """What a team's environment has of the heavy libraries, the tests that run in it, and what only they need."""

    has: tuple[str, ...]
    tests: tuple[str, ...]
    test_needs: tuple[str, ...] = ()


PARTS = {
    "product": Part(("jinja2", "sqlalchemy"), ("test_promise", "test_tracking", "test_fallback", "test_consumers")),
    "serving": Part(
        ("onnxruntime",), ("test_rollout", "test_bundles", "test_consumers"), ("onnx", "psutil", "psycopg[binary]")
    ),
    "monitoring": Part(("jinja2", "sqlalchemy"), ("test_policy", "test_cohorts", "test_coverage", "test_service")),
    "data": Part(
        ("polars", "pandera", "sqlalchemy"), ("test_lake", "test_intake", "test_snapshots", "test_city_service")
    ),
    "loadtests": Part(("locust", "jinja2"), ("test_report", "test_traffic")),
    "model": Part(
        ("torch", "mlflow", "pandas", "polars", "pandera", "onnxruntime", "jinja2", "sqlalchemy"),
        ("test_network", "test_gate"),
    ),
}


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command that must succeed, with nothing of this environment around it."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    ended = subprocess.run([*map(str, command)], cwd=cwd, env=kept, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, f"{' '.join(map(str, command))}\n{ended.stdout[-6000:]}\n{ended.stderr[-3000:]}"
    return ended.stdout


def install(python: Path, *what: str, cwd: Path) -> None:
    """By pip, in the versions of the lock file."""
    options = ("-q", "--disable-pip-version-check", "--root-user-action=ignore", "--no-build-isolation")
    run(python, "-m", "pip", "install", *options, "-c", ROOT / "requirements.lock", *what, cwd=cwd)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """An environment with what every service stands on, from which each team's is copied."""
    folder = tmp_path_factory.mktemp("base")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needs = [*project["dependencies"], *project["optional-dependencies"]["chassis"]]
    run(sys.executable, "-m", "venv", folder / "env", cwd=folder)
    install(folder / "env/bin/python", *needs, *BUILD_TOOLS, cwd=folder)
    return folder / "env"


def a_team_alone(team: str, base: Path, folder: Path) -> tuple[Path, Path]:
    """A repository with one team in it, and a Python with that team's extra: (repository, python)."""
    repository, environment = folder / "alone", folder / "env"
    for part in (team, "contracts", "chassis", f"tests/{team}"):
        shutil.copytree(ROOT / part, repository / part, ignore=shutil.ignore_patterns("__pycache__"))
    for path in [*ROOT.glob("tests/*.py"), *(ROOT / name for name in ("pyproject.toml", "README.md", "LICENSE"))]:
        shutil.copy(path, repository / path.relative_to(ROOT))
    shutil.copytree(base, environment, symlinks=True, copy_function=os.link)  # as an own one, without the disk and time
    python = environment / "bin/python"
    if team == "model" and (index := os.environ.get("TORCH_INDEX")):
        install(python, "--no-deps", "--index-url", index, "torch", cwd=folder)
    install(python, "--no-compile", "-e", f"{repository}[{team}]", cwd=folder)
    return repository, python


IMPORT_ALL = """
import importlib, importlib.util, pkgutil, sys
team, heavy = sys.argv[1], sys.argv[2].split(",")
package = importlib.import_module(team)
modules = [module.name for module in pkgutil.walk_packages(package.__path__, team + ".")]
for name in modules:
    importlib.import_module(name)
others = {"data", "model", "serving", "product", "monitoring", "loadtests", "deploy"} - {team}
print(len(modules), *sorted(name for name in heavy if importlib.util.find_spec(name)))
print(*sorted(name for name in others if importlib.util.find_spec(name)))
"""


@pytest.mark.slow
@pytest.mark.timeout(900)  # a busy machine installs slowly
@pytest.mark.parametrize("team", PARTS)
def test_a_team_stands_alone(team, base, tmp_path):
    part = PARTS[team]
    try:
        repository, python = a_team_alone(team, base, tmp_path)
        found, neighbours, *_ = [*run(python, "-c", IMPORT_ALL, team, ",".join(HEAVY), cwd=repository).splitlines(), ""]
        count, *heavy = found.split()
        assert int(count) >= 5
        assert set(heavy) == set(part.has), f"{team}'s extra brings {heavy}"
        assert neighbours == "", f"{neighbours} can be imported beside {team}: this environment is not clean"

        # Only now, so that nothing of the team's can lean on them.
        install(python, "--no-compile", *TEST_TOOLS, *part.test_needs, cwd=repository)
        pytest_here = (python, "-m", "pytest", "-p", "no:cacheprovider", "-m", "not slow")
        run(*pytest_here, "--collect-only", f"tests/{team}", cwd=repository)
        told = run(*pytest_here, *(f"tests/{team}/{name}.py" for name in part.tests), cwd=repository)
        assert " passed" in told
        assert "skipped" not in told, told
    finally:
        shutil.rmtree(tmp_path, ignore_errors=True)  # the environments are large
