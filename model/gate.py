"""The gate: each model requirement held against what was measured. Pure: values in, verdicts out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta

from contracts.bundle import Bounds, Evidence, GateResult, Slice
from contracts.problems import TandemError
from contracts.requirements import Requirement, Requirements
from contracts.snapshots import SnapshotMade

SHARP = 1 / 3


class CannotJudge(TandemError):
    """A requirement asks the gate for a metric it does not measure."""

    def __init__(self, requirement: Requirement) -> None:
        super().__init__(
            f"requirement {requirement.id} is checked by the gate, which measures no {requirement.metric!r}: "
            "teach model/gate.py that metric, or take 'gate' out of its checked_by"
        )


def sufficiency(made: SnapshotMade, weekly_rows: Mapping[str, float], record: Requirements) -> list[GateResult]:
    """Whether a snapshot is worth training on, judged before any training; `weekly_rows` holds its delivered trips a
    week by zone group."""
    name, fewest = min(weekly_rows.items(), key=lambda found: found[1], default=("no zone group at all", 0.0))
    found: dict[str, tuple[float, str]] = {
        "rows_per_week": (sum(weekly_rows.values()), ""),
        "least_group_rows_per_week": (fewest, name),
        "weeks_spanned": ((made.last_requested_at - made.first_requested_at) / timedelta(weeks=1), ""),
    }
    if made.rows_quarantined is not None:
        judged = made.rows + made.rows_quarantined
        found["snapshot_quarantine_share"] = (
            made.rows_quarantined / judged,
            f"{made.rows_quarantined:,} of {judged:,} rows",
        )
    asked = (item for item in record.all() if item.metric in found and "gate" in item.checked_by)
    return [_point(item, *found[item.metric]) for item in asked]


BEFORE_TRAINING = ("rows_per_week", "least_group_rows_per_week", "weeks_spanned", "snapshot_quarantine_share")


def judge(
    evidence: Evidence,
    blind_ratio: tuple[float, Bounds] | None,
    since_change: int | None,
    how: str,
    record: Requirements,
) -> list[GateResult]:
    """One verdict per requirement that the gate checks after a training; one per zone group where it is about groups.

    `blind_ratio` is the loss with rain and temperature taken away over the loss with them, and its interval; a
    correction has none, since it bears an outage as its champion does, and a rainy day or two say little of that.
    `since_change` is the number of delivered trips since the change, `how` says what of them was made; without a change
    it is None.
    """
    metrics: dict[str, Callable[[Requirement], Iterable[GateResult]]] = {
        "coverage_p90": lambda item: _coverage(item, evidence, record),
        "coverage_band": lambda item: _coverage(item, evidence, record),
        "pinball_ratio": lambda item: [_loss(item, *_against_heuristic(evidence.overall))],
        "pinball_ratio_without_weather": lambda item: [_loss(item, *blind_ratio)] if blind_ratio else [],
        "behaviour_failures": lambda item: [_point(item, len(failed), ", ".join(failed))],
        "outcomes_since_change": lambda item: [] if since_change is None else [_point(item, since_change, how)],
        "training_s": lambda item: [_point(item, evidence.training_s)],
        "bundle_bytes": lambda item: [_point(item, evidence.bundle_bytes)],
    }
    failed = [item.name for item in evidence.behaviour if not item.passed]
    found: list[GateResult] = []
    for item in record.all():
        if "gate" in item.checked_by and item.metric not in BEFORE_TRAINING:
            if item.metric not in metrics:
                raise CannotJudge(item)
            found += metrics[item.metric](item)
    return found


def reasons(results: list[GateResult], record: Requirements) -> list[str]:
    """Why a release is refused, one line for each failed verdict; empty when all passed."""
    return [
        f"{record[item.requirement].missed(item.measured)}{f' ({item.note})' * bool(item.note)}"
        for item in results
        if not item.passed
    ]


def _verdict(item: Requirement, measured: float, passed: bool, note: str) -> GateResult:
    return GateResult(requirement=item.id, limit=item.limit, measured=measured, passed=passed, note=note)


def _point(item: Requirement, value: float, note: str = "") -> GateResult:
    """A value that is counted or timed, not estimated."""
    return _verdict(item, value, item.passes(value), note)


def _against_heuristic(overall: Slice) -> tuple[float, Bounds]:
    return overall.pinball_min / overall.heuristic_pinball_min, overall.bounds["pinball_ratio"]


def _loss(item: Requirement, ratio: float, bounds: Bounds) -> GateResult:
    """A loss must be shown to keep its limit: the upper end of its interval decides."""
    return _verdict(item, ratio, item.passes(bounds[1]), f"95% interval up to {bounds[1]:.3f}, which decides")


def _coverage(item: Requirement, evidence: Evidence, record: Requirements) -> Iterator[GateResult]:
    if not item.id.startswith("group-"):
        yield _overall(item, evidence.overall)
        return
    enough = record.policy.group_outcomes
    for name, found in evidence.zone_groups.items():
        share, (low, high) = getattr(found, item.metric), found.bounds[item.metric]
        if found.rows < enough:
            yield _verdict(item, share, True, f"{name}: not enough truth, {found.rows} of {enough} trips")
        else:
            note = f"{name}: {low:.3f} to {high:.3f} (95%, all groups at once)"
            yield _verdict(item, share, not item.fails_for_sure(low, high), note)


def _overall(item: Requirement, overall: Slice) -> GateResult:
    """Overall coverage must be shown to keep its limits: its whole interval lies within them. An interval wider than
    `SHARP` of the limits' own width would fail a perfect model too often: then only one that lies wholly outside is
    red."""
    share, (low, high) = getattr(overall, item.metric), overall.bounds[item.metric]
    sharp = high - low <= SHARP * (item.ceiling - item.floor)
    passed = item.passes(low) and item.passes(high) if sharp else not item.fails_for_sure(low, high)
    rule = "all of it must lie within" if sharp else "not all of it may lie outside"
    return _verdict(item, share, passed, f"{overall.rows:,} trips, 95% interval {low:.3f} to {high:.3f}: {rule}")
