"""What monitoring decides: one of seven, with what it rests on."""

from __future__ import annotations

from typing import Any, Literal, get_args

from contracts.trips import Instant, Wire

DecisionKind = Literal[
    "nothing",
    "watch",
    "data_broken",
    "retrain",
    "promote",
    "drop_challenger",
    "roll_back",
]
KINDS: tuple[DecisionKind, ...] = get_args(DecisionKind)


class Rejected(Wire):
    """A decision that was not taken, and why not."""

    kind: DecisionKind
    why: str


class Decision(Wire):
    """Feed `decisions`, type `decision.made`: a change of mind, appended when the kind or its target changes.

    `change_at` is the estimated start of the change that a retrain answers: training may weigh the rows since then.
    `target` is the bundle version to promote, to drop, or to go back to. `evidence_digest` names the evidence that the
    policy read, kept whole in monitoring's log.
    """

    decision_id: str
    kind: DecisionKind
    at: Instant
    reasons: list[str]
    requirement_ids: list[str]
    rejected: list[Rejected]
    evidence_digest: str
    champion: str | None = None
    challenger: str | None = None
    target: str | None = None
    change_at: Instant | None = None
    figures: dict[str, Any] = {}
