"""What adds or saves minutes: Shapley values over groups of a trip's inputs, all coalitions in one run of the graph.

A coalition of groups is worth the p50 of a trip that has the explained trip's inputs in its groups and the typical
trip's in all others. A group's value is what its joining adds to a coalition, averaged over all orders in which groups
may join (Shapley, 1953, "A value for n-person games"); against one reference trip, as by Lundberg and Lee (2017, "A
unified approach to interpreting model predictions"). With six groups there are 64 coalitions, so nothing is sampled.
"""

from __future__ import annotations

from math import factorial
from typing import Any

import numpy as np

from contracts.estimates import REASON_GROUPS, Explanation, Reason

Numbers = np.ndarray[Any, Any]
Inputs = dict[str, Numbers]  # model inputs by name, each of shape (n_trips,)


def members(groups: int) -> Numbers:
    """Who is in which coalition, shape (groups, 2 ** groups): coalition c has the groups whose bits are set in c."""
    return np.array([[coalition >> group & 1 == 1 for coalition in range(2**groups)] for group in range(groups)])


def weights(groups: int) -> Numbers:
    """Shapley's weights, shape (groups, 2 ** groups): times what each coalition is worth, they are the groups' values.

    >>> weights(2) @ [0.0, 1.0, 3.0, 10.0]  # nobody, the first alone, the second alone, both
    array([4., 6.])
    """
    inside = members(groups)
    size = inside.sum(axis=0)
    # How often, of all orders, just these others have come before a group joins.
    before = np.array([factorial(others) * factorial(groups - others - 1) for others in range(groups)])
    share = before / factorial(groups)
    signed: Numbers = np.where(inside, share[size - 1], -share[size.clip(max=groups - 1)])
    return signed


MEMBERS = members(len(REASON_GROUPS))
WEIGHTS = weights(len(REASON_GROUPS))
COALITIONS = len(MEMBERS[0])


def coalitions(trips: Inputs, typical: Inputs) -> Inputs:
    """The model inputs of every coalition of each trip, each of shape (n_trips * `COALITIONS`,), trip by trip.

    `typical` holds one trip; coalition 0 is that trip, the last one is the explained trip itself.
    """
    return {
        name: np.where(inside, trips[name][:, None], typical[name]).ravel()
        for inside, names in zip(MEMBERS, REASON_GROUPS.values(), strict=True)
        for name in names
    }


def explanations(trips: Inputs, typical: Inputs, p50_min: Numbers) -> list[Explanation]:
    """One explanation per trip, from the p50 in minutes of its coalitions, in the order of `coalitions`.

    Raises pydantic's `ValidationError` where these are no sound minutes.
    """
    worth = p50_min.reshape(-1, COALITIONS).astype(float)
    values = np.where(differing(trips, typical), worth @ WEIGHTS.T, 0.0)  # without it, as exact as float32 is
    return [
        Explanation(
            typical_min=typical_min,
            reasons=[Reason(group=group, minutes=value) for group, value in zip(REASON_GROUPS, mine, strict=True)],
        )
        for typical_min, mine in zip(worth[:, 0].tolist(), values.tolist(), strict=True)
    ]


def differing(trips: Inputs, typical: Inputs) -> Numbers:
    """Whether a group of a trip holds other inputs than the typical trip's, shape (n_trips, groups). Two missing values
    are the same."""

    def differ(name: str) -> Numbers:
        other: Numbers = (trips[name] != typical[name]) & ~(np.isnan(trips[name]) & np.isnan(typical[name]))
        return other

    return np.stack([np.any([differ(name) for name in names], axis=0) for names in REASON_GROUPS.values()], axis=1)
