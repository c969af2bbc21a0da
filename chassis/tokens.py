"""Tokens for staff, courier and control routes: generated once into a file only its owner can read.

To replace one without downtime, put `["new", "old"]` in its place, hand the new one out, then take the old one away.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from fastapi import Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from chassis.problems import ProblemError
from contracts.problems import TandemError

Role = Literal["courier", "staff", "control"]
ROLES: tuple[Role, ...] = ("courier", "staff", "control")
log = logging.getLogger(__name__)


def _one_or_more(value: object) -> object:
    return [value] if isinstance(value, str) else value


Valid = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1), BeforeValidator(_one_or_more)]


class TokensFile(BaseModel):
    """What the file holds: for each role a token, or several of which the first is the newest."""

    courier: Valid
    staff: Valid
    control: Valid


class NoTokens(TandemError):
    """There is no token file, or it has no tokens as we know them."""


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
    """The token that a role should send, the newest one. Raises `NoTokens`."""
    newest: str = getattr(_read(path), role)[0]
    return newest


class Tokens:
    """Who may do what, by a file that is read again when it changes. Raises `NoTokens` if it is unsound at the start;
    later an unsound file is logged once and changes nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp = _stamp(path)
        self._valid = _read(path)

    def accepts(self, role: Role, given: str) -> bool:
        """Whether this is one of the role's tokens; how long that takes tells nothing about them."""
        self._look_again()
        sent = given.encode()
        return sum(secrets.compare_digest(sent, token.encode()) for token in getattr(self._valid, role)) > 0

    def _look_again(self) -> None:
        stamp = _stamp(self.path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._valid = _read(self.path)
        except NoTokens as error:
            log.error("%s; the tokens read before stay valid", error)
        else:
            log.info("read the tokens in %s again", self.path)


def requires(role: Role, tokens: Tokens) -> Callable[[HTTPAuthorizationCredentials | None], None]:
    """A FastAPI dependency: the caller must send `Authorization: Bearer <token of role>`."""
    bearer = HTTPBearer(scheme_name=f"{role} token", auto_error=False)

    def check(sent: HTTPAuthorizationCredentials | None = Security(bearer)) -> None:
        if not tokens.accepts(role, sent.credentials if sent else ""):
            raise ProblemError(401, "token-needed", f"this route needs the {role} token: Authorization: Bearer <token>")

    return check


def _read(path: Path) -> TokensFile:
    try:
        return TokensFile.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise NoTokens(f"no token file at {path}: start Tandem with `make run`, which writes it") from error
    except OSError as error:
        raise NoTokens(f"{path} cannot be read ({error.strerror}): give it to the service's user, mode 0600") from error
    except ValidationError as error:  # its text would show tokens
        faults = "; ".join(f"{'.'.join(map(str, it['loc'])) or 'file'}: {it['msg']}" for it in error.errors())
        raise NoTokens(f"{path} has no tokens that we could read ({faults}): restore or remove it") from None


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes with a file's content, or with who may read it."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ctime_ns, found.st_size, found.st_ino
