"""Setting up: a Python that cannot have what is locked is refused before anything is made."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "deploy" / "setup.sh"
OTHER_PYTHON = """#!/bin/sh
[ "$1" = --version ] && echo "Python {version}" && exit
[ "$1" = -m ] && echo "venv was asked for" && exit 1
exec {python} -c "import sys; sys.version_info = ({numbers}); $2"
"""


def set_up(folder: Path, version: str) -> subprocess.CompletedProcess[str]:
    """The set-up in an empty folder, by a Python that says it is of this version and can make no environment."""
    python = folder / "python"
    numbers = version.replace(".", ", ")
    python.write_text(OTHER_PYTHON.format(version=version, python=sys.executable, numbers=numbers))
    python.chmod(0o755)
    environment = os.environ | {"PYTHON": str(python)}
    return subprocess.run(
        ["bash", str(SCRIPT), ".venv/.ready"], check=False, cwd=folder, env=environment, capture_output=True, text=True
    )


@pytest.mark.parametrize("version", ["3.10.14", "3.15.0", "4.0.0"])
def test_a_python_without_the_locked_packages_is_refused(version, tmp_path):
    ended = set_up(tmp_path, version)

    assert ended.returncode == 1
    assert f"Tandem needs Python 3.11 to 3.14, and '{tmp_path}/python' is Python {version}" in ended.stderr
    assert "make setup PYTHON=python3.12" in ended.stderr


@pytest.mark.parametrize("version", ["3.11.0", "3.14.2"])
def test_the_first_and_the_last_that_have_them_are_taken(version, tmp_path):
    assert "venv was asked for" in set_up(tmp_path, version).stdout
