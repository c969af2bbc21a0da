"""Errors at the edges, as RFC 9457 problems, and the base of every error we raise on purpose."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import BaseModel


class TandemError(Exception):
    """Base of what Tandem raises on purpose: its text says what happened, the value at fault and what to do."""


@contextmanager
def plain_words() -> Iterator[None]:
    """Around a command, `@plain_words()`: what is raised on purpose ends the process with its text and status 1."""
    try:
        yield
    except TandemError as error:
        sys.exit(str(error))


class FieldFault(BaseModel):
    """One fault in a request: the field's path, the value at fault and the rule it breaks."""

    field: str
    value: Any = None
    rule: str


class Problem(BaseModel):
    """An `application/problem+json` body (RFC 9457); `errors` and `retry_after_s` are our extensions."""

    type: str
    title: str
    status: int
    detail: str
    instance: str | None = None
    errors: list[FieldFault] = []
    retry_after_s: float | None = None
