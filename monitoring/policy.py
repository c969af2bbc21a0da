"""The retraining policy: from evidence and the requirement record to exactly one decision, with its reasons.

Each of the seven kinds has a rule that weighs its own case; the first case in `RULES` that holds is the decision, and
every other one is recorded with why it was rejected.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from contracts.decisions import DecisionKind
from contracts.requirements import Requirements
from monitoring.comparison import Duel
from monitoring.coverage import Tally
from monitoring.evidence import Evidence, Reading, Stretch
from monitoring.standing import faults, standing


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of decision weighed: whether it holds, and why or why not."""

    kind: DecisionKind
    holds: bool
    why: tuple[str, ...]
    requirement_ids: tuple[str, ...] = ()
    target: str | None = None
    change_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The one decision. `rejected` holds every other kind and why it was not taken."""

    kind: DecisionKind
    reasons: tuple[str, ...]
    requirement_ids: tuple[str, ...]
    rejected: tuple[tuple[DecisionKind, str], ...]
    target: str | None = None
    change_at: datetime | None = None


def decide(evidence: Evidence, record: Requirements) -> Verdict:
    """The decision that this evidence asks for under these requirements."""
    cases = [rule(evidence, record) for rule in RULES]
    taken = next(case for case in cases if case.holds)
    rejected = []
    for case in cases:
        if case is not taken:
            prefix = f"{taken.kind} comes first; " if case.holds else ""
            rejected.append((case.kind, prefix + "; ".join(case.why)))
    return Verdict(taken.kind, taken.why, taken.requirement_ids, tuple(rejected), taken.target, taken.change_at)


def data_broken(evidence: Evidence, record: Requirements) -> Case:
    """Beats all: a decision on data that cannot be believed is worse than none."""
    found = faults(evidence.health, record)
    if found:
        ids = tuple(dict.fromkeys(fault.requirement_id for fault in found))
        return Case("data_broken", True, tuple(fault.words for fault in found), ids)
    clean, needed = evidence.clean_cohorts, record.policy.clean_cohorts
    if clean < needed:
        return Case("data_broken", True, (f"{clean} of {needed} clean cohorts since the last fault",))
    return Case("data_broken", False, (f"no fault in the data for {needed} cohorts",))


def roll_back(evidence: Evidence, record: Requirements) -> Case:
    """The champion before this one does better on the same trips since the promotion."""
    duel = evidence.previous
    if duel is None:
        return Case("roll_back", False, ("there is no champion to go back to",))
    holds = _enough_pairs(duel, record) and duel.wins >= _odds_needed(record)
    return Case("roll_back", holds, (_told(duel, record),), ("coverage-p90",) if holds else (), duel.rival)


def promote(evidence: Evidence, record: Requirements) -> Case:
    """The challenger does better on the same trips, covers them itself, and the audit's trips do not contradict."""
    duel = evidence.challenger
    if duel is None:
        return Case("promote", False, ("there is no challenger",))
    won = _enough_pairs(duel, record) and duel.wins >= _odds_needed(record)
    against = (() if won else ("it has not won yet",)) + _objections(duel, record)
    return Case(
        "promote",
        holds=not against,
        why=(_told(duel, record), *against),
        requirement_ids=("coverage-p90", "group-coverage-p90"),
        target=duel.rival,
    )


def drop_challenger(evidence: Evidence, record: Requirements) -> Case:
    """The challenger does worse for sure, can't be promoted, or has had its chance."""
    duel = evidence.challenger
    if duel is None:
        return Case("drop_challenger", False, ("there is no challenger",))
    lost = _enough_pairs(duel, record) and duel.loses >= _odds_needed(record)
    spent = duel.pairs >= record.policy.most_pairs
    # One that neither wins nor covers can't be promoted, and while it is compared nothing else may be trained.
    unfit = _enough_pairs(duel, record) and duel.wins < _odds_needed(record) and _objections(duel, record)
    why = [_told(duel, record)]
    if spent:
        why.append(f"not promoted after {record.policy.most_pairs} pairs")
    if spent or unfit:
        why += _objections(duel, record)
    elif not lost:
        why.append("it has not lost, and has pairs left to win")
    return Case("drop_challenger", bool(lost or spent or unfit), tuple(why), ("coverage-p90",), duel.rival)


def retrain(evidence: Evidence, record: Requirements) -> Case:
    """The champion no longer fits the city, or there is none, and there is enough truth to learn from."""
    causes, ids, stretch = _causes(evidence, record)
    if not causes:
        return Case("retrain", False, ("no detector is in alarm and no coverage limit is broken for sure",))
    blocks = _blocks(evidence, record, stretch)
    ids = (*ids, "retrain-outcomes")
    change_at = stretch.since if stretch else None
    return Case("retrain", not blocks, blocks or causes, ids, change_at=change_at)


def watch(evidence: Evidence, record: Requirements) -> Case:
    """Something is wrong, or may be, and none of the stronger decisions holds."""
    causes, ids, stretch = _causes(evidence, record)
    red = [line for line in standing(evidence, record) if line.colour == "red" and line.requirement.id not in ids]
    why = [*causes, *(_blocks(evidence, record, stretch) if causes else ())]
    why += [
        f"{line.requirement.id} is red: {line.measured:.3g} where the limit is {line.requirement.limit}"
        + (f" ({line.note})" if line.note else "")
        for line in red
    ]
    if evidence.serving.champion is not None and not evidence.watched:
        why.append(f"no reference is known for champion {evidence.serving.champion}: its detectors are off")
    ids = (*ids, *(line.requirement.id for line in red))
    return Case("watch", bool(why), tuple(why) or ("nothing is suspicious",), ids)


def nothing(evidence: Evidence, _record: Requirements) -> Case:
    """What is left when no other rule holds."""
    return Case("nothing", True, (f"champion {evidence.serving.champion} holds what was asked of it",))


RULES: tuple[Callable[[Evidence, Requirements], Case], ...] = (
    data_broken,
    roll_back,
    promote,
    drop_challenger,
    retrain,
    watch,
    nothing,
)


def alarms(evidence: Evidence, record: Requirements) -> list[Reading]:
    """Detectors in alarm, the loudest first."""
    up = [reading for reading in evidence.readings if reading.peak >= record.policy.trips_between_false_alarms]
    return sorted(up, key=lambda reading: -reading.peak)


def _causes(evidence: Evidence, record: Requirements) -> tuple[tuple[str, ...], tuple[str, ...], Stretch | None]:
    """Why a retraining is wanted, the requirements behind it, and the stretch since the change, where there is one."""
    if evidence.serving.champion is None:
        return ("no champion yet",), (), None
    causes, ids, stretches = [], [], []
    for reading in alarms(evidence, record):
        where = f"zone group {reading.group}" if reading.group else "all trips"
        causes.append(f"too many trips {reading.side} in {where}: odds {reading.peak:,.0f} to 1 for a change")
        broken = "coverage-p90" if reading.side == "above p90" else "coverage-band"
        ids.append(f"group-{broken}" if reading.group else broken)
        stretches.append(reading.stretch)
    loudest = max(evidence.readings, key=lambda reading: reading.peak, default=None)
    for line in standing(evidence, record):
        if line.requirement.quality in ("coverage", "fairness") and line.colour == "red":
            where = f" in {line.note}" if line.note else ""
            causes.append(f"{line.requirement.id} is broken for sure: {line.measured:.3f}{where}")
            ids.append(line.requirement.id)
            # Too few covered is what detectors look for, so they know best since when; too many is not.
            began = loudest.stretch if loudest and line.measured < line.requirement.floor else None
            stretches.append(began or evidence.held.stretch)
    return tuple(causes), tuple(dict.fromkeys(ids)), stretches[0] if stretches else None


def _blocks(evidence: Evidence, record: Requirements, stretch: Stretch | None) -> tuple[str, ...]:
    """Why a wanted retraining has to wait."""
    policy, past = record.policy, evidence.retrainings
    cooldown = timedelta(hours=policy.retrain_cooldown_h)
    blocks = []
    needed = record["retrain-outcomes"]
    outcomes = stretch.outcomes if stretch else evidence.outcomes
    if not needed.passes(outcomes):
        since = " since the change" if stretch else ""
        blocks.append(f"{outcomes} of {needed.floor:.0f} outcomes{since}")
    if stretch and stretch.quarantined.of and not record["quarantine-share"].passes(stretch.quarantined.value):
        blocks.append(f"{stretch.quarantined.value:.1%} of the rows since the change are quarantined")
    if evidence.challenger is not None:
        blocks.append(f"challenger {evidence.challenger.rival} is being compared and may be the answer")
    # Nothing heard for a whole cooldown means that the retraining was lost, not that it still runs.
    if past.running_since is not None and evidence.at - past.running_since < cooldown:
        blocks.append(f"retraining {past.running} runs")
    # The first bundle replaced none: once it serves, nothing has to cool down from it.
    first_serves = past.released == 1 and evidence.serving.champion is not None
    if past.released_at is not None and evidence.at - past.released_at < cooldown and not first_serves:
        blocks.append(f"the last retraining was less than {policy.retrain_cooldown_h} city hours ago")
    # Sooner, no cohort has closed that was booked after the refusal: it would be refused again.
    if past.refused_at is not None and evidence.at - past.refused_at < timedelta(minutes=policy.closing_min):
        blocks.append(f"the last retraining was refused ({past.refused_why}) and no newer cohort has closed")
    return tuple(blocks)


def _odds_needed(record: Requirements) -> float:
    """Odds from which a comparison is sure, at half the error level for each of its two sides."""
    return 2 / record.policy.verdict_alpha


def _enough_pairs(duel: Duel, record: Requirements) -> bool:
    return duel.pairs >= record.policy.least_pairs


def _told(duel: Duel, record: Requirements) -> str:
    better, odds = ("lower", duel.wins) if duel.mean_gain_min >= 0 else ("higher", duel.loses)
    return (
        f"{duel.rival}'s loss is {abs(duel.mean_gain_min):.2f} min a trip {better} on {duel.pairs} pairs "
        f"(at least {record.policy.least_pairs} needed), odds {odds:,.3g} to 1 ({_odds_needed(record):.0f} needed)"
    )


def _objections(duel: Duel, record: Requirements) -> tuple[str, ...]:
    """What speaks against a challenger's own quality on its pairs, surely."""
    alpha, enough = record.policy.verdict_alpha, record.policy.group_outcomes
    found = []

    def check(counted: Tally, requirement_id: str, where: str) -> None:
        low, high = counted.p90.interval(alpha)
        if record[requirement_id].fails_for_sure(low, high):
            found.append(f"its p90 covers {low:.3f} to {high:.3f} {where}: {requirement_id} fails for sure")

    check(duel.tally, "coverage-p90", "of its pairs")
    for group, counted in duel.groups.items():
        if counted.of >= enough:
            check(counted, "group-coverage-p90", f"in {group}")
    check(duel.audit_tally, "coverage-p90", "of the audit's trips")
    if duel.audit_loses >= _odds_needed(record):
        found.append(f"on the {duel.audit_tally.of} audit trips it loses, odds {duel.audit_loses:,.3g} to 1")
    return tuple(found)
