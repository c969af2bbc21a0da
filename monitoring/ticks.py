"""A tick: one evaluation of the policy, and the JSON in which it is kept."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from pydantic import TypeAdapter

from monitoring.evidence import Closing, Evidence
from monitoring.policy import Verdict, decide
from monitoring.watch import Watch

CLOSING, EVIDENCE, VERDICT = TypeAdapter(Closing), TypeAdapter(Evidence), TypeAdapter(Verdict)


@dataclass(frozen=True, slots=True)
class Tick:
    """What was decided on what. `text` is the evidence as JSON, `digest` its SHA-256."""

    evidence: Evidence
    text: str
    digest: str
    verdict: Verdict


def evaluate(watch: Watch, closing: Closing) -> Tick:
    """Take in one closing and decide: all that a tick is, and all that a replay repeats."""
    watch.take_in(closing)
    evidence = watch.evidence()
    text = EVIDENCE.dump_json(evidence).decode()
    return Tick(evidence, text, hashlib.sha256(text.encode()).hexdigest(), decide(evidence, watch.record))
