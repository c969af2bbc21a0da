"""The rules of the rollout, as a table one can read."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import pytest

from contracts.decisions import Decision
from contracts.estimates import BundleRejected, Rollout, RolloutChanged, RolloutCommand
from serving import rollout as rules
from serving.rollout import NotApplicable, apply, command_of, fold, in_canary, without

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


def ask(action: str, version: str | None = None, share: float = 0.0) -> RolloutCommand:
    return RolloutCommand(action=action, version=version, canary_share=share, reason="test")


def test_the_first_bundle_becomes_champion_and_the_next_challenges_it_in_shadow():
    first = apply(Rollout(), ask("challenge", "1"))
    assert first == Rollout(champion="1")
    assert apply(first, ask("challenge", "2")) == Rollout(champion="1", challenger="2", mode="shadow")


def test_a_newer_challenger_replaces_the_older_and_starts_in_shadow():
    canary = Rollout(champion="1", challenger="2", mode="canary", canary_share=0.5, previous="0")
    assert apply(canary, ask("challenge", "3")) == Rollout(champion="1", challenger="3", previous="0")


def test_promotion_keeps_the_old_champion_for_a_rollback():
    promoted = apply(Rollout(champion="1", challenger="2", previous="0"), ask("promote", "2"))
    assert promoted == Rollout(champion="2", previous="1")
    assert apply(promoted, ask("roll_back", "2")) == Rollout(champion="1")


def test_a_rollback_leaves_the_challenger_where_it_is():
    before = Rollout(champion="2", challenger="3", previous="1")
    assert apply(before, ask("roll_back", "2")) == Rollout(champion="1", challenger="3")


def test_a_dropped_challenger_is_out_and_ends_its_canary():
    canary = Rollout(champion="1", challenger="2", mode="canary", canary_share=0.5, previous="0")
    assert apply(canary, ask("drop", "2")) == Rollout(champion="1", previous="0")


def test_a_canary_begins_and_ends_with_its_share():
    shadow = Rollout(champion="1", challenger="2")
    canary = apply(shadow, ask("canary", share=0.2))
    assert (canary.mode, canary.canary_share) == ("canary", 0.2)
    assert apply(canary, ask("canary", share=0.0)) == shadow


def test_people_need_not_name_the_version_that_has_the_role():
    assert apply(Rollout(champion="1", challenger="2"), ask("promote")) == Rollout(champion="2", previous="1")


@pytest.mark.parametrize(
    ("before", "command", "why"),
    [
        (Rollout(champion="1", challenger="2"), ask("promote", "7"), "the challenger is 2 now"),
        (Rollout(champion="1"), ask("promote"), "the challenger is None now"),
        (Rollout(champion="1", challenger="2"), ask("drop", "1"), "the challenger is 2 now"),
        (Rollout(champion="1", challenger="2", previous="0"), ask("roll_back", "0"), "the champion is 1 now"),
        (Rollout(champion="1"), ask("roll_back", "1"), "no previous bundle"),
        (Rollout(champion="1"), ask("canary", share=0.1), "the challenger is None now"),
        (Rollout(champion="1"), ask("challenge", "1"), "serves already"),
        (Rollout(champion="1"), ask("challenge"), "name the bundle"),
    ],
)
def test_a_command_that_does_not_fit_what_serves_is_refused_with_the_reason(before, command, why):
    with pytest.raises(NotApplicable, match=why):
        apply(before, command)


@pytest.mark.parametrize(
    ("before", "broken", "after"),
    [
        (Rollout(champion="2", previous="1"), {"2"}, Rollout(champion="1")),
        (Rollout(champion="2", previous="1"), {"1"}, Rollout(champion="2")),
        (Rollout(champion="2", previous="1"), {"1", "2"}, Rollout()),
        (Rollout(champion="1", challenger="2"), {"2"}, Rollout(champion="1")),
        (Rollout(champion="1", challenger="2"), {"1"}, Rollout(challenger="2")),
        (
            Rollout(champion="2", challenger="3", mode="canary", canary_share=0.3, previous="1"),
            {"1"},
            Rollout(champion="2", challenger="3", mode="canary", canary_share=0.3),
        ),
        (
            Rollout(champion="2", challenger="3", mode="canary", canary_share=0.3),
            {"3"},
            Rollout(champion="2"),
        ),
    ],
)
def test_the_previous_bundle_steps_in_for_a_champion_that_cannot_be_loaded(before, broken, after):
    assert without(before, broken) == after


def test_the_rollout_is_the_fold_of_its_log():
    steps = [ask("challenge", "1"), ask("challenge", "2"), ask("promote", "2")]
    log, now = [], Rollout()
    for step in steps:
        after = apply(now, step)
        log.append(RolloutChanged(before=now, after=after, cause="control", reason="test", at=NOON))
        log.append(BundleRejected(version="9", reason="broken", at=NOON))
        now = after
    assert fold(log) == now == Rollout(champion="2", previous="1")
    assert fold([]) == Rollout()


def decision(kind: str, target: str | None) -> Decision:
    return Decision(
        decision_id="d",
        kind=kind,
        at=NOON,
        reasons=["coverage"],
        requirement_ids=[],
        rejected=[],
        evidence_digest="e",
        target=target,
    )


@pytest.mark.parametrize(
    ("kind", "action"), [("promote", "promote"), ("drop_challenger", "drop"), ("roll_back", "roll_back")]
)
def test_three_decisions_ask_something_of_serving(kind, action):
    command = command_of(decision(kind, "2"))
    assert command is not None
    assert (command.action, command.version) == (action, "2")


@pytest.mark.parametrize("kind", ["nothing", "watch", "data_broken", "retrain"])
def test_the_other_decisions_do_not(kind):
    assert command_of(decision(kind, "2")) is None


@pytest.mark.parametrize("target", ["1", "2"])
def test_a_rollback_is_for_the_champion_it_was_decided_about(target):
    decided = decision("roll_back", target).model_copy(update={"champion": "2"})
    command = command_of(decided)
    assert apply(Rollout(champion="2", previous="1"), command) == Rollout(champion="1")
    with pytest.raises(NotApplicable, match="the champion is 3 now"):
        apply(Rollout(champion="3", previous="2"), command)


def test_a_decision_must_name_its_target():
    with pytest.raises(NotApplicable, match="without a target"):
        command_of(decision("promote", None))


def test_a_canary_is_sticky_and_takes_its_share():
    ids = [f"trip-{number}" for number in range(20_000)]
    chosen = {trip for trip in ids if in_canary(trip, 0.2)}
    assert chosen == {trip for trip in ids if in_canary(trip, 0.2)}
    assert 0.19 < len(chosen) / len(ids) < 0.21
    assert chosen < {trip for trip in ids if in_canary(trip, 0.4)}  # a larger share keeps those it had
    assert not any(in_canary(trip, 0.0) for trip in ids)
    assert all(in_canary(trip, 1.0) for trip in ids)


def test_the_rules_know_no_framework():
    source = rules.__loader__.get_source(rules.__name__)
    imported = {
        line.split()[1].partition(".")[0] for line in source.splitlines() if line.startswith(("import", "from"))
    }
    assert imported - {"contracts"} <= sys.stdlib_module_names
