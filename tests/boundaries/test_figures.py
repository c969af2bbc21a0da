"""Figures that one team chooses and another leans on, where no contract holds them."""

from __future__ import annotations

from datetime import timedelta

from monitoring.ledger import QUOTES_KEPT
from product.settings import Settings


def test_monitoring_keeps_a_quote_for_as_long_as_product_lets_it_be_booked():
    assert timedelta(minutes=Settings.model_fields["quote_valid_min"].default) <= QUOTES_KEPT
