"""Routes that ought to ask who is there: each is tried without a token and with a wrong one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

PUBLISHED = Path(__file__).parents[2] / "contracts" / "published"
ANYTHING = {"trip_id": "nothing", "decision_id": "nothing"}


def published(service: str) -> Mapping[str, Any]:
    """A service's OpenAPI as published: what ought to be guarded, whatever the service itself says now."""
    document: dict[str, Any] = json.loads((PUBLISHED / f"{service}.openapi.json").read_text())
    return document


def answering_strangers(url: str, openapi: Mapping[str, Any]) -> tuple[list[str], int]:
    """Guarded routes of a service that answer a stranger with anything but 401, and how many it has to guard.

    Guarded are those that declare a security scheme in `openapi`.
    """
    guarded, open_to_all = 0, []
    for path, operations in openapi["paths"].items():
        for method, operation in operations.items():
            if "security" not in operation:
                continue
            guarded += 1
            for headers in ({}, {"Authorization": "Bearer made-up"}):
                answer = httpx.request(method, url + path.format(**ANYTHING), headers=headers, timeout=20)
                if answer.status_code != 401:
                    open_to_all.append(f"{method.upper()} {path} answers {answer.status_code}")
                    break
    return open_to_all, guarded
