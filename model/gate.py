"""The gate: each model requirement held against what was measured. Pure: values in, verdicts out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from contracts.bundle import GateResult, Slice
from contracts.problems import TandemError
from contracts.requirements import Requirement, Requirements
from model.evaluation import interval


class CannotJudge(TandemError):
    """A requirement asks the gate for a metric it does not measure."""

    def __init__(self, requirement: Requirement) -> None:
        super().__init__(
            f"requirement {requirement.id} is checked by the gate, which measures no {requirement.metric!r}: "
            "teach model/gate.py that metric, or take 'gate' out of its checked_by"
        )


@dataclass(frozen=True)
class Measured:
    """What the gate reads. `blind_ratio` is the loss with rain and temperature taken away over the loss with them; a
    correction has none, since it bears an outage as its champion does, and a rainy day or two say little of that.
    `weekly_rows` holds the delivered trips a week by zone group. `since_change` is the number of delivered trips since
    the change, `how` says what of them was made of; both are None without a change."""

    overall: Slice
    groups: dict[str, Slice]
    blind_ratio: float | None
    weekly_rows: dict[str, float]
    training_s: float
    bundle_bytes: int
    since_change: int | None = None
    how: str = ""


def judge(measured: Measured, record: Requirements) -> list[GateResult]:
    """One verdict per requirement that the gate checks; one per zone group where it is about groups' coverage."""
    asked = [item for item in record.all() if "gate" in item.checked_by]
    return [result for item in asked for result in _judge(item, measured, record)]


def reasons(results: list[GateResult], record: Requirements) -> list[str]:
    """Why a release is refused, one line for each failed verdict; empty when all passed."""
    return [
        f"{record[item.requirement].missed(item.measured)}{f' ({item.note})' * bool(item.note)}"
        for item in results
        if not item.passed
    ]


def _judge(item: Requirement, measured: Measured, record: Requirements) -> Iterator[GateResult]:
    def verdict(value: float, passed: bool, note: str = "") -> GateResult:
        return GateResult(requirement=item.id, limit=item.limit, measured=value, passed=passed, note=note)

    if item.id.startswith("group-coverage"):
        enough = record.policy.group_outcomes
        for name, found in measured.groups.items():
            share = getattr(found, item.metric)
            low, high = interval(share, found.rows)
            if found.rows < enough:
                yield verdict(share, True, f"{name}: not enough truth, {found.rows} of {enough} trips")
            else:
                yield verdict(
                    share, not item.fails_for_sure(low, high), f"{name}: 95% interval {low:.3f} to {high:.3f}"
                )
        return
    match item.metric:
        case "coverage_p90" | "coverage_band":
            yield _coverage(item, measured.overall)
        case "pinball_ratio":
            ratio = measured.overall.pinball_min / measured.overall.heuristic_pinball_min
            yield verdict(ratio, item.passes(ratio))
        case "pinball_ratio_without_weather":
            if measured.blind_ratio is not None:
                yield verdict(measured.blind_ratio, item.passes(measured.blind_ratio))
        case "rows_per_week":
            rows = sum(measured.weekly_rows.values())
            yield verdict(rows, item.passes(rows))
        case "least_group_rows_per_week":
            name, rows = min(measured.weekly_rows.items(), key=lambda found: found[1])
            yield verdict(rows, item.passes(rows), name)
        case "outcomes_since_change":
            if measured.since_change is not None:
                yield verdict(measured.since_change, item.passes(measured.since_change), measured.how)
        case "training_s" | "bundle_bytes":
            value = getattr(measured, item.metric)
            yield verdict(value, item.passes(value))
        case _:
            raise CannotJudge(item)


def _coverage(item: Requirement, overall: Slice) -> GateResult:
    """Overall coverage: by the point, once its interval is narrower than the limit itself; with fewer rows a perfect
    model would miss the limit too often, so only an interval wholly outside is red."""
    share = getattr(overall, item.metric)
    low, high = interval(share, overall.rows)
    sharp = high - low < item.ceiling - item.floor
    passed = item.passes(share) if sharp else not item.fails_for_sure(low, high)
    judged_by = "point" if sharp else "interval"
    note = f"{overall.rows:,} trips, 95% interval {low:.3f} to {high:.3f}, judged by the {judged_by}"
    return GateResult(requirement=item.id, limit=item.limit, measured=share, passed=passed, note=note)
