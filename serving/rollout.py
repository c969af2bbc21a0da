"""Which bundles serve: the rules, as pure functions from one rollout to the next."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from typing import Literal, get_args

from contracts.decisions import Decision, DecisionKind
from contracts.estimates import Rollout, RolloutChanged, RolloutCommand
from contracts.problems import TandemError
from contracts.trips import Wire

Role = Literal["champion", "challenger", "previous"]
ROLES: tuple[Role, ...] = get_args(Role)
ACTIONS: dict[DecisionKind, Literal["promote", "drop", "roll_back"]] = {
    "promote": "promote",
    "drop_challenger": "drop",
    "roll_back": "roll_back",
}


class NotApplicable(TandemError):
    """A command does not fit what serves now, and so changes nothing."""


def fold(log: Iterable[Wire]) -> Rollout:
    """The rollout after everything that the rollout feed tells."""
    rollout = Rollout()
    for told in log:
        if isinstance(told, RolloutChanged):
            rollout = told.after
    return rollout


def versions(rollout: Rollout) -> dict[Role, str]:
    """The bundles of a rollout by role."""
    return {role: version for role in ROLES if (version := getattr(rollout, role)) is not None}


def apply(rollout: Rollout, command: RolloutCommand) -> Rollout:
    """The rollout after a command. A command without a version means whichever bundle has the role now.

    >>> apply(Rollout(champion="1", challenger="2"), RolloutCommand(action="promote", reason="better on 300 pairs"))
    Rollout(champion='2', challenger=None, mode='shadow', canary_share=0.0, previous='1')
    """
    champion, challenger, previous = rollout.champion, rollout.challenger, rollout.previous
    if command.action == "challenge":
        return _challenge(rollout, command.version)
    if command.action == "roll_back":
        _must_be("champion", champion, command)
        if previous is None:
            raise NotApplicable(f"no previous bundle to roll back to from {champion}: challenge with a good one")
        return rollout.model_copy(update={"champion": previous, "previous": None})
    _must_be("challenger", challenger, command)
    if command.action == "promote":
        return Rollout(champion=challenger, previous=champion)
    if command.action == "drop":
        return Rollout(champion=champion, previous=previous)
    share = command.canary_share
    return rollout.model_copy(update={"mode": "canary" if share > 0 else "shadow", "canary_share": share})


def command_of(decision: Decision) -> RolloutCommand | None:
    """What a decision asks of serving, None where it asks nothing. Raises `NotApplicable` when it names no target.

    A rollback is for the champion it was decided about, whether its target names that one or the one to go back to.
    """
    action = ACTIONS.get(decision.kind)
    if action is None:
        return None
    target = decision.champion or decision.target if action == "roll_back" else decision.target
    if target is None:
        raise NotApplicable(f"decision {decision.decision_id}: {decision.kind} without a target; name the version")
    reason = f"{decision.kind}: {'; '.join(decision.reasons)}"[:500]
    return RolloutCommand(action=action, version=target, reason=reason)


def without(rollout: Rollout, broken: Collection[str]) -> Rollout:
    """The rollout when some of its bundles cannot be loaded any more: the previous one steps in for a champion."""
    left = {role: version for role, version in versions(rollout).items() if version not in broken}
    champion = left.get("champion") or left.pop("previous", None)
    after = Rollout(champion=champion, challenger=left.get("challenger"), previous=left.get("previous"))
    if after.challenger is None:
        return after
    return after.model_copy(update={"mode": rollout.mode, "canary_share": rollout.canary_share})


def in_canary(trip_id: str, share: float) -> bool:
    """Whether a trip is shown the challenger: by hash of its id, so that asking again gives the same bundle.

    The salt keeps these trips apart from those that other hashes of the id choose, such as product's audit share.
    """
    drawn = int.from_bytes(hashlib.sha256(f"canary:{trip_id}".encode()).digest()[:8], "big")
    return drawn < share * 2**64


def _challenge(rollout: Rollout, version: str | None) -> Rollout:
    if version is None:
        raise NotApplicable("challenge without a version: name the bundle that shall challenge")
    if version in versions(rollout).values():
        raise NotApplicable(f"bundle {version} serves already: {versions(rollout)}")
    if rollout.champion is None:
        return rollout.model_copy(update={"champion": version})
    return Rollout(champion=rollout.champion, challenger=version, previous=rollout.previous)


def _must_be(role: Role, now: str | None, command: RolloutCommand) -> None:
    if now is None or command.version not in (None, now):
        raise NotApplicable(f"{command.action} of {command.version or 'the ' + role}: the {role} is {now} now")
