"""What serving can be told from outside, as `TANDEM_SERVING_*`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from chassis.addresses import Addresses


class Settings(Addresses):
    """Serving's settings beside the shared addresses."""

    bundles_url: str = ""  # a read-only store that fsspec reads, instead of the folder var/bundles
    serving_most_waiting_trips: int = 4_096  # however quickly they are answered: they take memory
    serving_largest_body_bytes: int = 1_000_000  # 256 trips take about 100,000
    serving_longest_answer_s: float = 1.0  # after that a caller is told that there is no answer
    serving_longest_run_s: float = 0.5  # a champion's graph that takes longer is stopped
    serving_longest_lock_s: float = 0.25  # how long a lock of others on the database is waited for
    serving_shadow_budget_s: float = 0.05  # how long an answer waits for the bundle that nobody is shown
    serving_reasons_budget_s: float = 0.25  # how long answers wait for their reasons; then they come without
    serving_pause_s: float = 1.0  # how long a bundle that took longer is left alone
    serving_workers: Annotated[int, Field(ge=1)] = 1  # processes on one socket
    serving_connections: int = 2_000  # open ones of a process
    serving_drain_s: float = 1.0  # how long it answers on, not ready, once told to end; 0 where nothing balances load
    serving_feed_wait_s: float = 2.0  # how long one look at a followed feed may wait for news
    serving_estimates_kept_days: float = 90.0  # city days
