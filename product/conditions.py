"""Product's own copy of the city, the map and the newest reading, kept so that a lost city stops nobody."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Connection, Engine, delete, insert, select

from chassis.sql import reading
from contracts.bookings import QuoteRequest
from contracts.conditions import CityMap, Conditions, MapZone
from contracts.feeds import Event
from contracts.problems import TandemError
from contracts.trips import DistanceKm, TripRequest
from product.tables import FACTS

log = logging.getLogger(__name__)
ROUTES = TypeAdapter(list[list[DistanceKm]])


class NoMapYet(TandemError):
    """The city has never been heard of."""

    def __init__(self) -> None:
        super().__init__("the city's map has not arrived yet: start the city, or try again in a moment")


class UnknownZone(TandemError):
    """A quote asks for a zone the map does not have."""

    def __init__(self, field: str, zone: int, known: int) -> None:
        super().__init__(f"{field}: zone {zone} is not among the {known} zones of the map: see GET /api/zones")


class BadMap(TandemError):
    """A map whose routes cannot be used."""


@dataclass(frozen=True, slots=True)
class City:
    """A map with an index: `places[zone]` is the zone's row and column in `map.route_km`."""

    map: CityMap
    places: dict[int, int]

    @classmethod
    def of(cls, city_map: CityMap) -> City:
        """Check a map: a route between any two zones, each of a length that a trip may have. Raises `BadMap`."""
        size = len(city_map.zones)
        try:
            routes = ROUTES.validate_python(city_map.route_km)
        except ValidationError as error:
            raise BadMap(f"route_km: {error.errors()[0]['msg']}, got {error.errors()[0]['input']}") from error
        if not size or len(routes) != size or any(len(row) != size for row in routes):
            raise BadMap(f"route_km must be {size} x {size}, one route between any two zones")
        return cls(city_map, {zone.zone: place for place, zone in enumerate(city_map.zones)})


class CityView:
    """The city as last heard of. A reading older than `stale_after` counts as missing; a map does not age."""

    def __init__(self, engine: Engine, stale_after: timedelta) -> None:
        self.stale_after = stale_after
        self.city: City | None = None
        self.reading: Conditions | None = None
        with reading(engine) as tx:
            facts = {row.name: row.value for row in tx.execute(select(FACTS))}
        if "map" in facts:
            self.city = City.of(CityMap.model_validate_json(facts["map"]))
        if "reading" in facts:
            self.reading = Conditions.model_validate_json(facts["reading"])

    def known(self) -> City:
        """The city. Raises `NoMapYet`."""
        if self.city is None:
            raise NoMapYet
        return self.city

    def zones(self) -> dict[int, MapZone]:
        """The zones by number. Raises `NoMapYet`."""
        return {zone.zone: zone for zone in self.known().map.zones}

    def trip(self, wish: QuoteRequest, trip_id: str, now: datetime) -> TripRequest:
        """The trip as asked for, with product's copy of the city's columns. Raises `NoMapYet`, `UnknownZone`."""
        city = self.known()
        for field, zone in (("pickup_zone", wish.pickup_zone), ("dropoff_zone", wish.dropoff_zone)):
            if zone not in city.places:
                raise UnknownZone(field, zone, len(city.places))
        heard = self.reading
        fresh = heard if heard is not None and now - heard.at <= self.stale_after else None
        return TripRequest(
            **dict(wish),
            trip_id=trip_id,
            requested_at=now,
            distance_km=city.map.route_km[city.places[wish.pickup_zone]][city.places[wish.dropoff_zone]],
            rain_mm_h=fresh and fresh.rain_mm_h,
            temperature_c=fresh and fresh.temperature_c,
            city_pace=fresh and fresh.city_pace,
        )

    def handle(self, tx: Connection, events: Sequence[Event]) -> None:
        """Take the newest map and reading of some events. A bad one is logged and the last good one kept: a lost map
        would stop the selling, a lost reading only goes stale."""
        newest = {event.type: event for event in events}
        try:
            if (event := newest.get("conditions.map")) is not None:
                self.city = City.of(CityMap.model_validate(event.data))
                self._remember(tx, "map", self.city.map)
            if (event := newest.get("conditions.reading")) is not None:
                self.reading = Conditions.model_validate(event.data)
                self._remember(tx, "reading", self.reading)
        except (BadMap, ValidationError) as error:
            log.error("feed conditions: event is no good, keeping what we have: %s", error)

    def _remember(self, tx: Connection, name: str, fact: CityMap | Conditions) -> None:
        tx.execute(delete(FACTS).where(FACTS.c.name == name))
        tx.execute(insert(FACTS).values(name=name, value=fact.model_dump_json()))
