"""No team reaches another one by a string, where import-linter does not look."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.boundaries.roundabout import MAY_START, TEAMS, detours

ROOT = Path(__file__).parents[2]
FOLDERS = (*TEAMS, "contracts", "chassis")


def test_no_team_reaches_another_by_a_string():
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    assert len(files) > 100
    found = [detour for path in files for detour in detours(path.read_text(), path.relative_to(ROOT).as_posix())]
    assert not found, "\n".join(map(str, found))


@pytest.mark.parametrize(
    ("path", "source", "how"),
    [
        ("monitoring/x.py", "import importlib\nimportlib.import_module('model.train')", "reaches into model/"),
        ("monitoring/x.py", "from importlib import import_module\nimport_module('serving')", "reaches into serving/"),
        ("serving/x.py", "train = __import__('model.train')", "reaches into model/"),
        ("serving/x.py", "import runpy\nrunpy.run_module('data.history')", "reaches into data/"),
        ("chassis/x.py", "import_module(f'{team}.main')", "nobody can check"),
        (
            "product/x.py",
            "subprocess.run([sys.executable, '-m', 'model.train', '--out'])",
            "python -m model.train",
        ),
        ("product/x.py", "command = (python, '-m', 'serving')", "python -m serving"),
        ("product/x.py", "subprocess.run('python -m data.history', shell=True)", "python -m data.history"),
        ("data/x.py", "os.system('python -m product')", "python -m product"),
        ("model/x.py", "command = [python, '-m', 'deploy.run']", "python -m deploy.run"),
    ],
)
def test_a_detour_is_found(path, source, how):
    [found] = detours(source, path)
    assert how in str(found)
    assert path in str(found)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("model/x.py", "subprocess.Popen([sys.executable, '-m', 'model.train'])"),
        ("model/x.py", "importlib.import_module('model.network')"),
        ("model/x.py", "importlib.import_module('json')"),
        ("deploy/x.py", "subprocess.run([sys.executable, '-m', 'data.history'])"),
        ("loadtests/x.py", "serving = process.cmdline()[1:3] == ['-m', 'serving']"),
        ("product/x.py", "print('run python -m data.history first')"),
    ],
)
def test_what_is_no_detour_is_left_alone(path, source):
    assert list(detours(source, path)) == []


def test_every_exception_is_needed():
    """One that nobody uses any more would be a hole."""
    assert list(MAY_START) == ["deploy", "loadtests"]
    launch = (ROOT / "loadtests/run.py").read_text()
    assert [str(detour) for detour in detours(launch, "product/as_if.py") if "deploy.run" in str(detour)]
