"""Tokens: replaced while the service runs; an unsound file lets nobody in and throws nobody out."""

from __future__ import annotations

import json
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chassis.tokens import ROLES, NoTokens, Tokens, make_tokens, read_token


def write(path: Path, **tokens: object) -> Path:
    path.write_text(json.dumps({"courier": "c", "staff": "s", "control": "o"} | tokens))
    return path


def test_generated_tokens_are_their_owners_alone_and_stay(tmp_path):
    path = tmp_path / "var" / "tokens"
    make_tokens(path)
    made = [read_token(path, role) for role in ROLES]
    make_tokens(path)
    assert [read_token(path, role) for role in ROLES] == made
    assert len(set(made)) == 3
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_role_has_its_own_token(tmp_path):
    tokens = Tokens(write(tmp_path / "tokens"))
    accepted = [
        (role, given) for role in ROLES for given in ("c", "s", "o", "", "C", "[]", "ü") if tokens.accepts(role, given)
    ]
    assert accepted == [("courier", "c"), ("staff", "s"), ("control", "o")]


def test_a_token_is_replaced_without_downtime(tmp_path):
    path = write(tmp_path / "tokens", staff="old")
    tokens = Tokens(path)

    def valid() -> list[str]:
        return [given for given in ("old", "new") if tokens.accepts("staff", given)]

    assert valid() == ["old"]
    write(path, staff=["new", "old"])
    assert valid() == ["old", "new"]
    assert read_token(path, "staff") == "new"  # what those who send one take from now on
    write(path, staff=["new"])
    assert valid() == ["new"]
    assert tokens.accepts("control", "o")


@pytest.mark.parametrize(
    "broken",
    ["", "{", "[]", '{"courier": "c", "staff": "s"}', '{"courier": "c", "staff": "", "control": "o"}',
     '{"courier": "c", "staff": [], "control": "o"}', '{"courier": "c", "staff": [""], "control": "o"}',
     '{"courier": "c", "staff": {"secret": "s"}, "control": 7}', None],
)  # fmt: skip
def test_an_unsound_file_changes_nothing_and_is_logged_once(tmp_path, caplog, broken):
    path = write(tmp_path / "tokens")
    tokens = Tokens(path)
    if broken is None:
        path.unlink()
    else:
        path.write_text(broken)

    with caplog.at_level(logging.ERROR, "chassis.tokens"):
        assert [tokens.accepts("staff", given) for given in ("s", "", "x")] == [True, False, False]
    assert len(caplog.records) == 1
    assert str(path) in caplog.text
    assert "secret" not in caplog.text

    write(path, staff="after")
    assert [tokens.accepts("staff", given) for given in ("s", "after")] == [False, True]


def test_a_file_that_is_not_ours_to_read_is_read_once_it_is(tmp_path, caplog):
    path = write(tmp_path / "tokens")
    with as_nobody(tmp_path):
        tokens = Tokens(path)
    path.unlink()
    write(path, staff="after").chmod(0)
    with as_nobody(tmp_path), caplog.at_level(logging.ERROR, "chassis.tokens"):
        assert [tokens.accepts("staff", given) for given in ("s", "after")] == [True, False]
    assert "mode 0600" in caplog.text
    path.chmod(0o644)  # neither its content nor the time of its last change is another
    with as_nobody(tmp_path):
        assert [tokens.accepts("staff", given) for given in ("s", "after")] == [False, True]


@contextmanager
def as_nobody(folder: Path) -> Iterator[None]:
    """As root, who may read everything: as a user without rights, who may get to `folder`."""
    if os.geteuid() != 0:
        yield
        return
    for place in (folder, *folder.parents[:2]):
        place.chmod(0o755)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_service_does_not_start_without_sound_tokens(tmp_path):
    with pytest.raises(NoTokens, match="make run"):
        Tokens(tmp_path / "tokens")
    (tmp_path / "tokens").write_text('{"courier": "c", "staff": "s"}')
    with pytest.raises(NoTokens, match="control: Field required"):
        Tokens(tmp_path / "tokens")
