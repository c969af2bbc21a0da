"""What the model team answers to "could the model do this?": a forecast with a verdict, kept as a record.

Verdicts rest on resampled curves (`learning_curve.draw`), as a share of them:
    achievable    nine in ten keep the limit within four times today's rows
    out of reach  fewer than one in forty would keep it with any number of rows: the limit lies beyond the interval of
                  what rows cannot take away
    unlikely      what lies between
Loss follows a power law of the rows, the model's as well as the heuristic's. Coverage does not: it is calibrated on
rows of its own, so what is asked is whether one more training on about today's rows would keep the limit, by the spread
over seeds and over the days that calibrate and test. Training time is laid on a straight line, and likewise judged at
today's rows.

Every forecast takes the city of tomorrow for that of the snapshot; what a new season or a closed bridge does to a loss
no learning curve can see.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import ValidationError

from contracts.bundle import Bounds
from contracts.problems import TandemError
from contracts.requirements import Requirement, Requirements
from contracts.trips import Instant, Wire
from model.evaluation import Bootstrap
from model.learning_curve import FALLING, FLAT, LINEAR, PARAMETERS, Outlook, draw, furthest, ratio
from model.lineage import code_revision
from model.snapshot import Snapshot, split
from model.trials import TrainedOn, Trial, by_group, middle_of

Verdict = Literal["achievable", "unlikely", "out of reach"]
EXPONENTS = {"pinball_ratio": FALLING, "coverage_p90": FLAT, "coverage_band": FLAT, "training_s": LINEAR}
REACH = 4  # times today's rows: a year where a snapshot holds three months
SURE, POSSIBLE = 0.9, 0.025
INTERVAL = (0.025, 0.5, 0.975)
HORIZON, STEPS = 16, 33  # times today's rows that a forecast reaches out to, and in how many steps it is told
NEVER = 1e12  # rows that no city will see


class CannotForecast(TandemError):
    """The question is none that a learning curve answers; the text says which are."""


class TooFewTrials(TandemError):
    """There were too few trainings to judge by."""


class UnreadableForecast(TandemError):
    """A file among the forecasts is not one."""


class Expected(Wire):
    """What a later training on `rows` training rows would measure: the middle, and the 95% interval of one training
    with a seed and held-out trips of its own."""

    rows: int
    middle: float
    bounds: Bounds


class Forecast(Wire):
    """One answer. Limits are those asked for; `rows` are training rows, `trips` the snapshot's delivered trips.

    `curves` holds a, b and the exponent of `a + b * rows**exponent` for each part that the metric is made of;
    `asymptote` is the 95% interval of what ever more rows come to. `rows_at_limit` is low, middle and high of the rows
    from which on a loss keeps the limit, or up to which training time does; None stands for no number of rows. `today`
    is what one more training on `rows` rows would measure.
    `sure` is the share of resampled curves that keep the limit within reach, `possible` of those that ever keep it.
    """

    requirement: str
    metric: str
    unit: str
    of_groups: bool
    at_least: float | None
    at_most: float | None
    snapshot_digest: str
    source: str
    trips: int
    rows: int
    weekly_rows: float
    held_out_rows: int
    block: Literal["day", "hour"]
    blocks: int
    code_revision: str
    at: Instant
    minutes: float
    trials: list[TrainedOn]
    curves: list[tuple[float, float, float]]
    measured: float
    today: Bounds
    asymptote: Bounds | None
    rows_at_limit: tuple[float | None, float | None, float | None] | None
    sure: float
    possible: float
    verdict: Verdict
    expected: list[Expected]

    def at_rows(self, rows: int) -> Expected | None:
        """What a training on so many rows was expected to measure, between neighbours by the logarithm of rows; None
        outside the forecast's range."""
        sizes = np.log([item.rows for item in self.expected])
        if not sizes[0] <= np.log(rows) <= sizes[-1]:
            return None
        lines = np.array([(item.middle, *item.bounds) for item in self.expected]).T
        middle, low, high = (float(np.interp(np.log(rows), sizes, line)) for line in lines)
        return Expected(rows=rows, middle=middle, bounds=(low, high))


def asked(record: Requirements, name: str, limit: str | None) -> Requirement:
    """The requirement, with the limit asked for in place of the agreed one: `0.8`, or `0.88:0.92` where it has two
    ends. Raises `CannotForecast`, and `BadRecord` for a name that is not in the record."""
    found = record[name]
    if not _depends_on_rows(found):
        can = ", ".join(item.id for item in record.all() if _depends_on_rows(item))
        raise CannotForecast(f"{name} is about {found.metric}, which no training on rows measures; ask for {can}")
    if limit is None:
        return found
    ends = [end for end in ("at_least", "at_most") if getattr(found, end) is not None]
    try:
        values = [float(part) for part in limit.split(":")]
    except ValueError:
        values = []
    if len(values) != len(ends) or values != sorted(values) or not np.isfinite(values).all():
        form = "LOW:HIGH, for example 0.88:0.92" if len(ends) == 2 else "one number, for example 0.8"
        raise CannotForecast(f"limit {limit!r} of {name} cannot be read; the agreed one is {found.limit}: give {form}")
    return found.model_copy(update=dict(zip(ends, values, strict=True)))


def _depends_on_rows(requirement: Requirement) -> bool:
    return requirement.metric in EXPONENTS and "gate" in requirement.checked_by


def forecast(requirement: Requirement, trials: Sequence[Trial], snapshot: Snapshot, minutes: float) -> Forecast:
    """What these trainings say of the requirement. Raises `TooFewTrials`."""
    exponents, today = EXPONENTS[requirement.metric], max(item.told.rows for item in trials)
    telling = [item for item in trials if exponents != FLAT or item.told.rows >= today / 2]
    smallest, sizes = min(item.told.rows for item in telling), len({item.told.rows for item in telling})
    if sizes <= PARAMETERS[exponents]:
        raise TooFewTrials(
            f"{len(trials)} trainings in {minutes:g} minutes on {sizes} sizes of data; {requirement.id} takes "
            f"{PARAMETERS[exponents] + 1} sizes: give --minutes more, or a snapshot of more than "
            f"{len(snapshot.trips):,} trips"
        )
    outlook = _outlook(requirement, telling)
    again = outlook.at(np.array([float(today)]), again=True)[:, 0]
    to_come, ever = np.geomspace(smallest, HORIZON * today, STEPS).round(), np.geomspace(smallest, NEVER, 1000)
    told = np.quantile(outlook.at(to_come, again=True), INTERVAL, axis=0).T.tolist()
    sure = possible = float(np.mean([requirement.passes(value) for value in again.tolist()]))
    kept = None
    if exponents == FALLING:
        kept = outlook.first_kept(requirement.ceiling, ever)
        sure, possible = float((kept <= REACH * today).mean()), float((kept < np.inf).mean())
    elif exponents == LINEAR:
        kept = outlook.last_kept(requirement.ceiling, ever)
    test = split(snapshot.trips).test
    blocks = Bootstrap(test.requested_at)
    return Forecast(
        requirement=requirement.id,
        metric=requirement.metric,
        unit=requirement.unit,
        of_groups=by_group(requirement),
        at_least=requirement.at_least,
        at_most=requirement.at_most,
        snapshot_digest=snapshot.made.digest,
        source=snapshot.made.source,
        trips=len(snapshot.trips),
        rows=today,
        weekly_rows=sum(snapshot.weekly_rows().values()),
        held_out_rows=len(test),
        block=blocks.unit,
        blocks=blocks.count,
        code_revision=code_revision(),
        at=datetime.now(UTC),
        minutes=minutes,
        trials=[item.told for item in trials],
        curves=[(float(one.best.a[0]), float(one.best.b[0]), float(one.best.exponent[0])) for one in outlook.parts],
        measured=float(np.mean([item.told.measured for item in trials if item.told.rows == today])),
        today=_bounds(again),
        asymptote=_bounds(outlook.at(ever[-1:])[:, 0]) if exponents == FALLING else None,
        rows_at_limit=None if kept is None else _rows(kept),
        sure=sure,
        possible=possible,
        verdict=verdict(sure, possible),
        expected=[
            Expected(rows=int(size), middle=middle, bounds=(low, high))
            for size, (low, middle, high) in zip(to_come, told, strict=True)
        ],
    )


def _outlook(requirement: Requirement, trials: Sequence[Trial]) -> Outlook:
    exponents = EXPONENTS[requirement.metric]
    rows = np.array([item.told.rows for item in trials], dtype=float)
    measured, resampled = np.array([item.parts for item in trials]), np.array([item.resampled for item in trials])
    parts = [
        draw(rows, measured[:, part], resampled[:, :, part].T, exponents, seed=part)
        for part in range(measured.shape[1])
    ]
    if exponents == FALLING:
        return Outlook(parts, ratio)
    return Outlook(parts, partial(furthest, middle_of(requirement) if exponents == FLAT else 0.0))


def verdict(sure: float, possible: float) -> Verdict:
    """From the shares of resampled curves that keep a limit within reach, and that ever keep it.

    >>> verdict(0.95, 1.0), verdict(0.5, 0.9), verdict(0.0, 0.01)
    ('achievable', 'unlikely', 'out of reach')
    """
    if sure >= SURE:
        return "achievable"
    return "out of reach" if possible < POSSIBLE else "unlikely"


def _bounds(drawn: np.ndarray) -> Bounds:
    low, high = np.quantile(drawn, [INTERVAL[0], INTERVAL[-1]]).tolist()
    return low, high


def _rows(kept: np.ndarray) -> tuple[float | None, float | None, float | None]:
    found = np.quantile(kept, INTERVAL, method="inverted_cdf").tolist()
    low, middle, high = (rows if rows < np.inf else None for rows in found)
    return low, middle, high


def keep(found: Forecast, file: Path) -> None:
    """Write a record in one step."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(f".{os.getpid()}.part")
    part.write_text(found.model_dump_json(indent=1))
    part.replace(file)


def kept(folder: Path) -> dict[str, Forecast]:
    """Every forecast that lies there, by its record's name. Raises `UnreadableForecast`."""
    found = {}
    for file in sorted(folder.glob("*.json")):
        try:
            found[file.stem] = Forecast.model_validate_json(file.read_bytes())
        except ValidationError as error:
            raise UnreadableForecast(
                f"{file}: {error.errors()[0]['msg']}: not a forecast of this code; remove it, or ask again"
            ) from error
    return found
