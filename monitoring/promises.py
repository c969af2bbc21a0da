"""What promising earlier or later would have meant: a bundle's promise levels in numbers, words and a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from contracts.bundle import BundleReleased, PromiseLevel
from contracts.problems import TandemError
from contracts.requirements import Requirement
from contracts.trips import Instant, Wire
from monitoring.charts import Curve, curve

TODAY = 1.0  # the stretch at which a promise is p90 itself, which is what product promises


class NoReleaseYet(TandemError):
    """No bundle has been released, so nothing was measured yet."""

    def __init__(self) -> None:
        super().__init__("no bundle has been released yet; the first one comes with model's first training")


class NoLevels(TandemError):
    """The bundle's evidence has no promise levels, or not the one that is promised today."""

    def __init__(self, release: BundleReleased) -> None:
        levels = len(release.evidence.promise_levels)
        super().__init__(
            f"bundle {release.version} was released without promise levels (of {levels} in its evidence none is "
            f"today's, stretch {TODAY:g}); the next bundle that model releases should bring them"
        )


class Promises(Wire):
    """What the held-out trips of one bundle say about promising earlier or later.

    `levels` are in order of stretch, `today` the one of them that product promises; `late_limit` is the highest share
    of late parcels that the requirement allows. `champion` is false for a bundle that is only the newest release.
    """

    bundle_version: str
    champion: bool
    test_rows: int
    test_from: Instant
    test_to: Instant
    late_limit: float
    today: PromiseLevel
    levels: list[PromiseLevel]


def promises(releases: Sequence[BundleReleased], champion: str | None, late: Requirement) -> Promises:
    """The champion's promise levels, or those of the newest release where the champion's release is not known.

    `releases` come oldest first. Raises `NoReleaseYet`, `NoLevels`.
    """
    if not releases:
        raise NoReleaseYet
    release = {one.version: one for one in releases}.get(champion or "", releases[-1])
    evidence = release.evidence
    levels = sorted(evidence.promise_levels, key=lambda level: level.stretch)
    today = next((level for level in levels if math.isclose(level.stretch, TODAY)), None)
    if today is None:
        raise NoLevels(release)
    return Promises(
        bundle_version=release.version,
        champion=release.version == champion,
        test_rows=evidence.test_rows,
        test_from=evidence.test_from,
        test_to=evidence.test_to,
        late_limit=late.ceiling,
        today=today,
        levels=levels,
    )


@dataclass(frozen=True, slots=True)
class Choice:
    """One stop of the slider: its level, the sentence it selects, what moving there from today's promise costs,
    whether it keeps the agreed limit, and its point in the picture."""

    level: PromiseLevel
    said: str
    cost: str
    kept: bool
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Slider:
    """All stops in order, the place of today's promise among them, and the picture they move in."""

    choices: list[Choice]
    today: int
    picture: Curve


def slider(known: Promises) -> Slider:
    """Lay out promise levels for the page: late parcels in a hundred against promised minutes."""
    points = [(level.promised_min, in_100(level.late_share)) for level in known.levels]
    picture = curve(points, limit=in_100(known.late_limit))
    choices = [
        Choice(level, said(level), cost(level, known.today), level.late_share <= known.late_limit, x, y)
        for level, (x, y) in zip(known.levels, picture.points, strict=True)
    ]
    return Slider(choices, known.levels.index(known.today), picture)


def in_100(share: float) -> float:
    """Parcels in a hundred."""
    return 100 * share


def said(level: PromiseLevel) -> str:
    """A level as a sentence.

    >>> said(PromiseLevel(stretch=1, promised_min=31.23, late_share=0.103))
    'Promising 31.2 min on average, about 1 in 10 parcels comes later than promised (10.3 in 100).'
    """
    late = f"{about(level.late_share)} later than promised ({in_100(level.late_share):.1f} in 100)"
    return f"Promising {level.promised_min:.1f} min on average, {late}."


def about(share: float) -> str:
    """A share of parcels as people say it: one in so many, or tenths where that would be too coarse.

    >>> about(0.24), about(0.48), about(0)
    ('about 1 in 4 parcels comes', 'about 5 in 10 parcels come', 'no parcel comes')
    """
    if share == 0:
        return "no parcel comes"
    one_in = round(1 / share)
    return f"about 1 in {one_in} parcels comes" if one_in > 3 else f"about {round(10 * share)} in 10 parcels come"


def cost(level: PromiseLevel, today: PromiseLevel) -> str:
    """What a level costs and gives against today's promise.

    >>> today = PromiseLevel(stretch=1, promised_min=31.2, late_share=0.103)
    >>> cost(PromiseLevel(stretch=1.3, promised_min=34.3, late_share=0.041), today)
    '3.1 min longer, 6.2 fewer late in 100'
    """
    if level == today:
        return "no change"
    longer, fewer = level.promised_min - today.promised_min, in_100(today.late_share) - in_100(level.late_share)
    return (
        f"{abs(longer):.1f} min {'longer' if longer >= 0 else 'shorter'}, "
        f"{abs(fewer):.1f} {'fewer' if fewer >= 0 else 'more'} late in 100"
    )
