"""What the pages answer, before any browser makes something of it."""

from __future__ import annotations

import re
from datetime import timedelta

from contracts.feeds import TripQuoted
from tests.product.conftest import WISH


def test_an_offer_leads_with_what_stays_true_however_long_it_is_read(tandem):
    page = tandem.client.post("/quotes", data=WISH, headers={"HX-Request": "true"}).text
    told = TripQuoted.model_validate(tandem.feed()[-1].data)

    [leads] = re.findall(r'<p class="by">(.+?)</p>', page)
    assert leads == f"Within <strong>{told.promised_min:.0f} minutes</strong> of booking"
    asked = told.trip.requested_at.astimezone(tandem.clock.zone)
    there = asked + timedelta(minutes=told.promised_min)
    assert f"Booked at {asked:%H:%M}, it is there by {there:%H:%M}." in page
