"""Tokens: replaced while the service runs; an unsound file lets nobody in and throws nobody out."""

from __future__ import annotations

import json
import logging
import os
import stat
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


def test_what_cannot_be_read_changes_nothing_and_is_read_once_it_can_be(tmp_path, caplog):
    path = write(tmp_path / "tokens")
    tokens = Tokens(path)
    path.unlink()
    path.mkdir()  # a file of another user would do, but none is closed to root
    with caplog.at_level(logging.ERROR, "chassis.tokens"):
        assert [tokens.accepts("staff", given) for given in ("s", "after")] == [True, False]
    assert "mode 0600" in caplog.text
    path.rmdir()
    write(path, staff="after")
    assert [tokens.accepts("staff", given) for given in ("s", "after")] == [False, True]


def test_a_change_is_noticed_that_leaves_size_and_time_of_the_last_one(tmp_path):
    """As `chown` and `chmod` do, which let us read what we could not before."""
    path = write(tmp_path / "tokens", staff="old")
    tokens, before = Tokens(path), path.stat()
    write(path, staff="new")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert [tokens.accepts("staff", given) for given in ("old", "new")] == [False, True]


def test_a_service_does_not_start_without_sound_tokens(tmp_path):
    with pytest.raises(NoTokens, match="make run"):
        Tokens(tmp_path / "tokens")
    (tmp_path / "tokens").write_text('{"courier": "c", "staff": "s"}')
    with pytest.raises(NoTokens, match="control: Field required"):
        Tokens(tmp_path / "tokens")
