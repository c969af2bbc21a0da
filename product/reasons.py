"""Why a trip takes longer or less long than a typical one, in words for customers."""

from __future__ import annotations

import math
from collections.abc import Mapping

from contracts.estimates import Explanation, ReasonGroup

LEAST_TOLD_MIN = 0.5  # less is noise to somebody who waits for a parcel
MOST_TOLD = 4
# What is said of a group that adds minutes, and of one that saves some. The model knows how much, never why: "rush
# hour" or "bad weather" would be our guess.
WORDS: Mapping[ReasonGroup, tuple[str, str]] = {
    "distance": ("the longer way adds", "the shorter way saves"),
    "time_of_week": ("this time of the week adds", "this time of the week saves"),
    "weather": ("the weather adds", "the weather saves"),
    "city_pace": ("the traffic adds", "the traffic saves"),
    "vehicle": ("this vehicle with its load adds", "this vehicle with its load saves"),
    "zones": ("these two places add", "these two places save"),
}


def in_words(explanation: Explanation) -> str:
    """An explanation as two sentences or one: the typical trip, then the groups that matter, largest first.

    >>> from contracts.estimates import Reason
    >>> rain, way = Reason(group="weather", minutes=2.6), Reason(group="distance", minutes=-6.2)
    >>> in_words(Explanation(typical_min=24.2, reasons=[rain, way]))
    'A typical trip takes about 24 min. The shorter way saves 6 min, the weather adds 3 min.'
    """
    typical = f"A typical trip takes about {_whole(explanation.typical_min)} min"
    mattering = [reason for reason in explanation.reasons if abs(reason.minutes) >= LEAST_TOLD_MIN]
    told = sorted(mattering, key=lambda reason: -abs(reason.minutes))[:MOST_TOLD]
    if not told:
        return f"{typical}, and so does this one."
    words = ", ".join(f"{WORDS[it.group][it.minutes < 0]} {_whole(abs(it.minutes))} min" for it in told)
    return f"{typical}. {words[0].upper()}{words[1:]}."


def _whole(minutes: float) -> int:
    return math.floor(minutes + 0.5)
