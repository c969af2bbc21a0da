"""Settings of the simulated people."""

from __future__ import annotations

from chassis.addresses import Addresses


class TrafficSettings(Addresses):
    """Wall times in seconds. `rating_share` is the share of customers who say how it was."""

    look_ahead_s: float = 1.0  # wishes are fetched this far ahead, so that each is spoken at its instant
    jobs_every_s: float = 0.5
    patience_s: float = 10.0  # nobody waits longer for an answer
    rating_share: float = 0.2
    people_seed: int = 7
