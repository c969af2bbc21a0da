"""Virtual environments that the benchmark makes by itself, and what is installed in them."""

from __future__ import annotations

import json
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

from contracts.problems import TandemError

# For each package its files' bytes, told by the environment's own Python.
WEIGH = """
import json, importlib.metadata as m
def weight(found):
    return sum(place.stat().st_size for place in (file.locate() for file in found.files or []) if place.is_file())
print(json.dumps({found.metadata["Name"]: weight(found) for found in m.distributions()}))
"""


class NotInstalled(TandemError):
    """An environment could not be made."""


def made(folder: Path, *what: str) -> Path:
    """A new virtual environment with that installed by pip, which itself stays outside; answers its Python.

    Raises `NotInstalled` with pip's last words.
    """
    python = folder / "bin" / "python"
    quiet = ("-q", "--disable-pip-version-check", "--root-user-action=ignore")
    for command in (["venv", "--without-pip", folder], ["pip", "--python", python, "install", *quiet, *what]):
        asked = [sys.executable, "-m", *map(str, command)]
        told = subprocess.run(asked, capture_output=True, text=True, check=False)
        if told.returncode != 0:
            words = (told.stderr.strip() or told.stdout.strip() or "no word of why").splitlines()
            raise NotInstalled(f"`{' '.join(asked)}` ended with {told.returncode}: {words[-1][:300]}")
    return python


def kept(folder: Path, requirements: Path) -> Path:
    """The Python of an environment with just those requirements, made unless it is there. Raises `NotInstalled`."""
    ready, pins = folder / ".ready", sha256(requirements.read_bytes()).hexdigest()
    if not (ready.is_file() and ready.read_text() == pins):
        made(folder, "-r", str(requirements))
        ready.write_text(pins)
    return folder / "bin" / "python"


def packages(python: Path) -> dict[str, int]:
    """Bytes of each installed package's files, by its name."""
    told = subprocess.run([python, "-c", WEIGH], capture_output=True, text=True, check=True)
    found: dict[str, int] = json.loads(told.stdout)
    return found
