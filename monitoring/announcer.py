"""Announcing decisions: a change of mind enters the decisions feed, at once or when a person has approved it."""

from __future__ import annotations

from typing import Literal

from sqlalchemy import Connection, Engine, RowMapping, select, update

from chassis.feed_store import Draft, FeedStore
from chassis.problems import ProblemError
from contracts.decisions import Decision, Rejected
from monitoring.evidence import Evidence
from monitoring.ledger import TICKS
from monitoring.policy import Verdict
from monitoring.ticks import EVIDENCE, VERDICT, Tick

ACTS = ("promote", "roll_back", "retrain")  # what a person may want to approve


class Announcer:
    """Writes the decisions feed. With approval `ask`, acts wait for `approve`."""

    def __init__(self, engine: Engine, approval: Literal["none", "ask"] = "none") -> None:
        self.feed, self.approval = FeedStore(engine, "decisions"), approval

    def announce(self, tx: Connection, tick: Tick) -> dict[str, str]:
        """The tick's decision id and state, where its decision or target differs from the last one announced."""
        verdict, last = tick.verdict, last_announced(tx)
        if last is not None:
            before = VERDICT.validate_json(last["verdict"])
            # A retraining decided again after the last one ended is a new order.
            again = verdict.kind == "retrain" and last["state"] == "published"
            if (before.kind, before.target) == (verdict.kind, verdict.target) and not again:
                return {}
        decision_id = f"d-{tick.evidence.cohort:%Y%m%dT%H%MZ}-{verdict.kind}"
        if self.approval == "ask" and verdict.kind in ACTS:
            return {"decision_id": decision_id, "state": "waiting"}
        self._publish(tx, decision_id, tick.evidence, verdict, tick.digest)
        return {"decision_id": decision_id, "state": "published"}

    def approve(self, decision_id: str) -> None:
        """Publish a waiting decision. Raises a problem when it does not wait, or another one has replaced it."""
        with self.feed.database.begin() as tx:
            last = last_announced(tx)
            if last is None or last["decision_id"] != decision_id or last["state"] != "waiting":
                newest = last["decision_id"] if last else "none"
                detail = (
                    f"{decision_id} does not wait for approval: the newest decision is {newest}; look at /decisions"
                )
                raise ProblemError(409, "not-waiting", detail)
            verdict, evidence = VERDICT.validate_json(last["verdict"]), EVIDENCE.validate_json(last["evidence"])
            self._publish(tx, decision_id, evidence, verdict, last["digest"])
            tx.execute(update(TICKS).where(TICKS.c.decision_id == decision_id).values(state="published"))

    def _publish(self, tx: Connection, decision_id: str, evidence: Evidence, verdict: Verdict, digest: str) -> None:
        held = evidence.held.overall
        decision = Decision(
            decision_id=decision_id,
            kind=verdict.kind,
            at=evidence.at,
            reasons=list(verdict.reasons),
            requirement_ids=list(verdict.requirement_ids),
            rejected=[Rejected(kind=kind, why=why) for kind, why in verdict.rejected],
            evidence_digest=digest,
            champion=evidence.serving.champion,
            challenger=evidence.serving.challenger,
            target=verdict.target,
            change_at=verdict.change_at,
            figures={"outcomes": evidence.outcomes, "judged": held.of, "coverage_p90": round(held.p90.value, 4)}
            if held.of
            else {"outcomes": evidence.outcomes},
        )
        self.feed.append(tx, [Draft("decision.made", evidence.at, decision_id, decision)])


def last_announced(tx: Connection) -> RowMapping | None:
    """The newest tick whose decision was a change, published or waiting."""
    changes = select(TICKS).where(TICKS.c.decision_id.is_not(None)).order_by(TICKS.c.cohort.desc()).limit(1)
    return tx.execute(changes).mappings().first()
