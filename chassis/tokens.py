"""Tokens for staff, courier and control routes: generated once into a file only its owner can read."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from fastapi import Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from chassis.problems import ProblemError
from contracts.problems import TandemError

Role = Literal["courier", "staff", "control"]
ROLES: tuple[Role, ...] = ("courier", "staff", "control")


class NoTokens(TandemError):
    """There is no token file."""


def make_tokens(path: Path) -> None:
    """Write a token per role, mode 0600, unless the file is there already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(handle, "w") as file:
        json.dump({role: secrets.token_urlsafe(24) for role in ROLES}, file)


def read_token(path: Path, role: Role) -> str:
    """The token of a role. Raises `NoTokens`."""
    if not path.is_file():
        raise NoTokens(f"no token file at {path}: start Tandem with `make run`, which writes it")
    token: str = json.loads(path.read_text())[role]
    return token


def requires(role: Role, token: str) -> Callable[[HTTPAuthorizationCredentials | None], None]:
    """A FastAPI dependency: the caller must send `Authorization: Bearer <token of role>`."""
    bearer = HTTPBearer(scheme_name=f"{role} token", auto_error=False)

    def check(sent: HTTPAuthorizationCredentials | None = Security(bearer)) -> None:
        given = sent.credentials if sent else ""
        if not secrets.compare_digest(given.encode(), token.encode()):
            raise ProblemError(401, "token-needed", f"this route needs the {role} token: Authorization: Bearer <token>")

    return check
