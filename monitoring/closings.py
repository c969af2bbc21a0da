"""Gathering a closing from the ledger: what was known at one instant, however late we look."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

from pydantic import TypeAdapter
from sqlalchemy import Connection, select

from contracts.bundle import BundleRefused, BundleReleased
from contracts.estimates import RolloutChanged
from contracts.snapshots import BatchJudged, SnapshotMade
from contracts.trips import TripRequest, columns
from monitoring.cohorts import JudgedTrip
from monitoring.coverage import Quantiles
from monitoring.detectors import Reference, Side
from monitoring.evidence import Batch, Retrainings, Serving
from monitoring.ledger import ESTIMATES, TICKS, TRIPS, facts, instant

QUANTILES = TypeAdapter(dict[str, Quantiles])
CITY_COLUMNS = {name for name, column in columns(TripRequest).items() if column.owner == "city"}


def judged_trips(tx: Connection, start: datetime, end: datetime, at: datetime) -> tuple[JudgedTrip, ...]:
    """The trips booked in [start, end) and by `at`, as they stood then, in order of booking."""
    snapshots = facts(tx, SnapshotMade, "snapshot.made", at)
    groups = snapshots[-1].data.zone_groups if snapshots else {}
    query = (
        select(TRIPS, ESTIMATES.c.quantiles)
        .outerjoin(ESTIMATES, TRIPS.c.estimate_id == ESTIMATES.c.estimate_id)
        .where(TRIPS.c.booked >= start.timestamp(), TRIPS.c.booked < end.timestamp())
        .where(TRIPS.c.booked <= at.timestamp())
        .order_by(TRIPS.c.booked, TRIPS.c.trip_id)
    )
    judged = []
    for row in tx.execute(query):
        ended = row.ended is not None and row.ended <= at.timestamp()
        judged.append(
            JudgedTrip(
                trip_id=row.trip_id,
                group=groups.get(row.zone),
                requested_at=instant(row.requested),
                booked_at=instant(row.booked),
                promised_by=instant(row.promised),
                ended_at=instant(row.ended) if ended else at,
                outcome=row.outcome if ended else "open",
                source=row.source,
                audit=row.audit,
                model_quoted=row.estimate_id is not None,
                quantiles=None if row.quantiles is None else QUANTILES.validate_json(row.quantiles),
            )
        )
    return tuple(judged)


def serving_at(tx: Connection, at: datetime) -> Serving:
    """Which bundles served at an instant, and since when."""
    now = Serving()
    for _, when, change in facts(tx, RolloutChanged, "rollout.changed", at):
        after = change.after
        now = Serving(
            champion=after.champion,
            champion_since=now.champion_since if after.champion == now.champion else when,
            challenger=after.challenger,
            challenger_since=now.challenger_since if after.challenger == now.challenger else when,
            previous=after.previous,
        )
    return now


def batches(tx: Connection, after: int, until: datetime) -> tuple[Batch, ...]:
    """Data's verdicts up to an instant that came after event `after` of its feed, in order.

    By place in the feed, not by time: a verdict that reaches us late must not fall between two closings.
    """
    told = [
        (number, _batch(number, batch, refused=kind == "batch.quarantined"))
        for kind in ("batch.accepted", "batch.quarantined")
        for number, _, batch in facts(tx, BatchJudged, kind, until, after)
    ]
    return tuple(batch for _, batch in sorted(told, key=lambda pair: pair[0]))


def _batch(number: int, batch: BatchJudged, refused: bool) -> Batch:
    return Batch(
        number=number,
        batch_id=batch.batch_id,
        accepted=batch.rows_accepted,
        quarantined=batch.rows_quarantined,
        refused=refused,
        detail=batch.detail or ", ".join(batch.reasons),
        first_requested_at=batch.first_requested_at,
        last_requested_at=batch.last_requested_at,
        missing={name: share for name, share in batch.missing_share.items() if name in CITY_COLUMNS},
    )


def retrainings(tx: Connection, at: datetime) -> Retrainings:
    """What had become of our `retrain` decisions by an instant."""
    ours = (TICKS.c.kind == "retrain") & (TICKS.c.state == "published") & (TICKS.c.at < at.timestamp())
    orders = tx.execute(select(TICKS.c.decision_id, TICKS.c.at).where(ours).order_by(TICKS.c.at)).all()
    released = {result.decision_id for _, _, result in facts(tx, BundleReleased, "bundle.released", at)}
    refused = {result.decision_id: (when, result) for _, when, result in facts(tx, BundleRefused, "bundle.refused", at)}
    given = [order.at for order in orders if order.decision_id in released]
    past = Retrainings(released=len(released), released_at=instant(given[-1]) if given else None)
    if not orders or orders[-1].decision_id in released:
        return past
    newest = orders[-1]
    if newest.decision_id in refused:
        when, result = refused[newest.decision_id]
        return replace(past, refused_at=when, refused_why="; ".join(result.reasons))
    return replace(past, running=newest.decision_id, running_since=instant(newest.at))


def references(tx: Connection, at: datetime) -> dict[str, Reference]:
    """The miss shares that each released bundle claims, by version."""
    return {release.version: _reference(release) for _, _, release in facts(tx, BundleReleased, "bundle.released", at)}


def _reference(release: BundleReleased) -> Reference:
    manifest, overall = release.manifest, release.evidence.overall
    hourly: dict[Side, list[float]] = {
        "above p90": manifest.above_p90_reference,
        "below p10": manifest.below_p10_reference,
    }
    extra: dict[tuple[Side, str], float] = {}
    for group, part in release.evidence.zone_groups.items():
        extra["above p90", group] = overall.coverage_p90 - part.coverage_p90
        extra["below p10", group] = (part.coverage_p90 - part.coverage_band) - (
            overall.coverage_p90 - overall.coverage_band
        )
    return Reference(ZoneInfo(manifest.time_zone), hourly, extra)
