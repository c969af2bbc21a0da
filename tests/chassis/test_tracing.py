"""traceparent as W3C Trace Context has it: what is sound is gone on with, anything else begins a new trace."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as some

from chassis.tracing import Traceparent, child, child_of, parse

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SOUND = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-0[01]")
ids = some.builds(
    Traceparent,
    some.integers(1, 2**128 - 1).map("{:032x}".format),
    some.integers(1, 2**64 - 1).map("{:016x}".format),
    some.booleans(),
)


@given(ids)
def test_what_is_written_is_read(sent):
    assert parse(str(sent).encode()) == sent


@given(ids)
def test_a_child_is_another_span_of_the_same_trace(sent):
    ours = child_of(sent)
    assert ours == sent._replace(span_id=ours.span_id)
    assert ours.span_id != sent.span_id
    assert parse(child(str(sent).encode()).encode())[::2] == sent[::2]


@given(some.binary(max_size=80) | some.text("0123456789abcdefg-", max_size=60).map(str.encode))
def test_whatever_is_sent_the_answer_is_sound(sent):
    assert SOUND.fullmatch(child(sent))


@given(ids, some.integers(0, 55), some.binary(max_size=2))
def test_a_broken_one_is_sound_only_if_it_still_reads_as_one(sent, at, splice):
    whole = str(sent).encode()
    broken = whole[:at] + splice + whole[at + 1 :]
    found = parse(broken)
    assert found is None or str(found)[:52].encode() == b"00" + broken[2:52]


@given(ids, some.integers(1, 254), some.just("") | some.text("-0aF ~,", max_size=9).map("-{}".format))
def test_of_a_later_version_the_first_four_fields_hold(sent, version, more):
    assert parse(f"{version:02x}{str(sent)[2:]}{more}".encode()) == sent


@pytest.mark.parametrize(
    "sent",
    [
        "",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01-",
        f"01-{TRACE}-{SPAN}-01more",
        f"00-{TRACE}-{SPAN}-0",
        f"00-{TRACE}-{SPAN}",
        f" 00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n",
        f"0-{TRACE}-{SPAN}-01",
        f"00_{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-0g",
    ],
)
def test_unsound_ones_begin_a_new_trace(sent):
    assert parse(sent.encode()) is None
    assert TRACE not in child(sent.encode())


@pytest.mark.parametrize(
    ("flags", "recorded"), [("00", False), ("01", True), ("03", True), ("fe", False), ("ff", True)]
)
def test_of_the_flags_only_the_one_that_we_know_is_passed_on(flags, recorded):
    found = parse(f"00-{TRACE}-{SPAN}-{flags}".encode())
    assert found == (TRACE, SPAN, recorded)
    assert child(f"00-{TRACE}-{SPAN}-{flags}".encode()).endswith("-01" if recorded else "-00")
