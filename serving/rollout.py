"""Which bundles serve: the rules, as pure functions from one rollout to the next."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from typing import Literal

from contracts.decisions import Decision, DecisionKind
from contracts.estimates import BundleRejected, Rollout, RolloutChanged, RolloutCommand
from contracts.problems import TandemError

Entry = RolloutChanged | BundleRejected
ACTIONS: dict[DecisionKind, Literal["promote", "drop", "roll_back"]] = {
    "promote": "promote",
    "drop_challenger": "drop",
    "roll_back": "roll_back",
}


class NotApplicable(TandemError):
    """A command does not fit what serves now, and so changes nothing."""


def fold(log: Iterable[Entry]) -> Rollout:
    """The rollout after everything that the rollout feed tells."""
    rollout = Rollout()
    for entry in log:
        if isinstance(entry, RolloutChanged):
            rollout = entry.after
    return rollout


def apply(rollout: Rollout, command: RolloutCommand) -> Rollout:
    """The rollout after a command. A command without a version means whichever bundle has the role now.

    >>> apply(Rollout(champion="1", challenger="2"), RolloutCommand(action="promote", reason="better on 300 pairs"))
    Rollout(champion='2', challenger=None, mode='shadow', canary_share=0.0, previous='1')
    """
    if command.action == "challenge":
        return _challenge(rollout, command.version)
    if command.action == "roll_back":
        _must_be("champion", rollout.champion, command)
        if rollout.previous is None:
            raise NotApplicable(f"no previous bundle to roll back to from {rollout.champion}: challenge a good one")
        return _with(rollout, champion=rollout.previous, previous=None)
    _must_be("challenger", rollout.challenger, command)
    if command.action == "promote":
        return _with(rollout, champion=rollout.challenger, previous=rollout.champion, challenger=None)
    if command.action == "drop":
        return _with(rollout, challenger=None)
    share = command.canary_share
    return rollout.model_copy(update={"mode": "canary" if share > 0 else "shadow", "canary_share": share})


def command_of(decision: Decision) -> RolloutCommand | None:
    """What a decision asks of serving, None where it asks nothing. Raises `NotApplicable` when it names no target."""
    action = ACTIONS.get(decision.kind)
    if action is None:
        return None
    if decision.target is None:
        raise NotApplicable(f"decision {decision.decision_id}: {decision.kind} without a target; name the version")
    reason = f"{decision.kind}: {'; '.join(decision.reasons)}"[:500]
    return RolloutCommand(action=action, version=decision.target, reason=reason)


def without(rollout: Rollout, broken: Collection[str]) -> Rollout:
    """The rollout when some of its bundles cannot be loaded any more: the previous one steps in for a champion."""
    champion, challenger, previous = (
        None if version in broken else version for version in (rollout.champion, rollout.challenger, rollout.previous)
    )
    if champion is None:
        champion, previous = previous, None
    if challenger == rollout.challenger:  # a canary goes on
        return rollout.model_copy(update={"champion": champion, "previous": previous})
    return Rollout(champion=champion, previous=previous)


def versions(rollout: Rollout) -> dict[Literal["champion", "challenger", "previous"], str]:
    """The bundles of a rollout by role."""
    roles = {"champion": rollout.champion, "challenger": rollout.challenger, "previous": rollout.previous}
    return {role: version for role, version in roles.items() if version is not None}  # type: ignore[misc]


def in_canary(trip_id: str, share: float) -> bool:
    """Whether a trip is shown the challenger: by hash of its id, so that asking again gives the same bundle.

    The salt keeps these trips apart from those that other hashes of the id choose, such as product's audit share.
    """
    drawn = int.from_bytes(hashlib.sha256(f"canary:{trip_id}".encode()).digest()[:8], "big")
    return drawn < share * 2**64


def _challenge(rollout: Rollout, version: str | None) -> Rollout:
    if version is None:
        raise NotApplicable("challenge without a version: name the bundle that shall challenge")
    role = next((role for role, taken in versions(rollout).items() if taken == version), None)
    if role is not None:
        raise NotApplicable(f"bundle {version} is the {role} already")
    if rollout.champion is None:
        return rollout.model_copy(update={"champion": version})
    return _with(rollout, challenger=version)


def _must_be(role: str, now: str | None, command: RolloutCommand) -> None:
    if now is None or command.version not in (None, now):
        raise NotApplicable(f"{command.action} of {command.version or 'the ' + role}: the {role} is {now} now")


def _with(rollout: Rollout, **changes: str | None) -> Rollout:
    """A changed rollout. Another champion or challenger starts in shadow: the canary was for the ones before."""
    roles = {"champion": rollout.champion, "challenger": rollout.challenger, "previous": rollout.previous}
    return Rollout(**(roles | changes))  # type: ignore[arg-type]
