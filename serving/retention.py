"""How long the estimates feed remembers. Who needs more archives it as it comes; that is not serving's work."""

from __future__ import annotations

import logging
from datetime import timedelta
from threading import Event as Flag

from chassis.clock import Clock
from chassis.feed_store import CursorTooOld, FeedStore
from chassis.sql import DatabaseAway

log = logging.getLogger(__name__)
LOOK_EVERY_S = 600.0


def forget(store: FeedStore, clock: Clock, kept: timedelta, stop: Flag) -> None:
    """Forget events older than `kept` of city time, now and every ten minutes, until told to stop."""
    while True:
        try:
            if count := store.forget_older(clock.now() - kept):
                log.info("feed %s: %d events older than %s forgotten", store.feed, count, kept)
        except (CursorTooOld, DatabaseAway) as error:  # the first: another worker does it
            log.warning("feed %s: what is old is forgotten at the next look: %s", store.feed, error)
        if stop.wait(LOOK_EVERY_S):
            return
