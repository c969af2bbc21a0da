"""Tandem seen from outside, over HTTP alone: what the start's checklist and the smoke check go by."""

from __future__ import annotations

from typing import Any

import httpx

from contracts.bookings import Quote
from contracts.conditions import CityMap
from contracts.feeds import Event, FeedName
from deploy.settings import DeploySettings, Service


class Outsider:
    """Asks services what anybody may ask. Answers None where a service is away or has nothing yet."""

    def __init__(self, settings: DeploySettings) -> None:
        self.settings = settings
        self.client = httpx.Client(timeout=5)

    def get(self, service: Service, path: str, **query: str | int) -> Any:
        """A JSON answer, or None."""
        try:
            answer = self.client.get(f"{self.settings.url(service)}{path}", params=query)
            return answer.json() if answer.status_code == 200 else None
        except httpx.HTTPError:
            return None

    def ready(self, service: Service) -> bool:
        """Whether a service says that it is ready."""
        return self.get(service, "/health/ready") is not None

    def events(self, service: Service, feed: FeedName, limit: int = 100) -> list[Event]:
        """The first events of a feed."""
        found = self.get(service, f"/feeds/{feed}", limit=limit)
        return [Event.model_validate(item) for item in found or []]

    def quote(self) -> Quote | None:
        """A quote for a parcel across town, as a customer would ask for it, or None."""
        maps = [event for event in self.events("city", "conditions", limit=1) if event.type == "conditions.map"]
        if not maps:
            return None
        zones = CityMap.model_validate(maps[0].data).zones
        wish = {"pickup_zone": zones[0].zone, "dropoff_zone": zones[-1].zone, "vehicle": "bike", "parcel_kg": 2.0}
        try:
            answer = self.client.post(f"{self.settings.url('product')}/api/quotes", json=wish)
        except httpx.HTTPError:
            return None
        return Quote.model_validate_json(answer.content, extra="ignore") if answer.status_code == 200 else None
