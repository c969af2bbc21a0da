"""What product can be told from outside. Times here are city time unless said."""

from __future__ import annotations

from chassis.addresses import Addresses


class Settings(Addresses):
    """Product's settings, as `TANDEM_*`."""

    quote_valid_min: float = 240  # how long a quote can be booked
    stale_reading_min: float = 30  # an older reading of the city says nothing about now
    report_skew_min: float = 2  # how far a courier's clock may run ahead of ours
    product_feed_wait_s: float = 1.0  # how long to wait for the city's news, in wall time
    fallback_every_h: float = 6  # how often the fallback is rebuilt from past outcomes
