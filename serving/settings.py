"""What serving can be told from outside, as `TANDEM_SERVING_*`."""

from __future__ import annotations

from chassis.addresses import Addresses


class Settings(Addresses):
    """Serving's settings beside the shared addresses."""

    bundles_url: str = ""  # a read-only store that fsspec reads, instead of the folder var/bundles
    serving_most_waiting_trips: int = 512  # above it a quick 503 is kinder than a slow answer
    serving_largest_body_bytes: int = 1_000_000  # 256 trips take about 100,000
    serving_shadow_budget_s: float = 0.05  # how long an answer waits for the bundle that nobody is shown
    serving_feed_wait_s: float = 2.0  # how long one look at a followed feed may wait for news
