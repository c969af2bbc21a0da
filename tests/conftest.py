"""In which order tests run."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, so that with two workers neither is left alone with it at the end."""
    items.sort(key=lambda item: not item.nodeid.startswith("tests/system/"))
