"""What the city publishes, and what couriers ask it. A real deployment puts real sources behind the same feed."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from contracts.trips import Instant, Outcome, ParcelKg, TripRequest, Vehicle, Wire, Zone


class MapZone(Wire):
    """One zone of the map. Coordinates in km east and north of the map's corner."""

    zone: Zone
    name: str
    group: str
    bank: str
    x_km: float
    y_km: float
    outline: list[tuple[float, float]]


class CityMap(Wire):
    """Feed `conditions`, type `conditions.map`: zones and planned route lengths.

    `route_km[i][j]` leads from `zones[i]` to `zones[j]`.
    """

    time_zone: str
    zones: list[MapZone]
    route_km: list[list[float]]


class Conditions(Wire):
    """Feed `conditions`, type `conditions.reading`: weather and street sensors, every five city minutes."""

    at: Instant
    rain_mm_h: Annotated[float, Field(ge=0, le=200)] | None = None
    temperature_c: Annotated[float, Field(ge=-50, le=60)] | None = None
    city_pace: Annotated[float, Field(gt=0, le=20)] | None = None


class TruthRequest(Wire):
    """A courier asks the city how a booked trip goes: body of the city's `POST /v1/truth`."""

    trip: TripRequest
    booked_at: Instant


class TruthAnswer(Wire):
    """When the trip's events happen, in city time; the same for the same trip whoever asks and however often."""

    trip_id: str
    picked_up_at: Instant | None = None
    ended_at: Instant
    outcome: Outcome


class Wish(Wire):
    """A customer about to ask for a quote: `GET /v1/wishes?after=&until=` of the city answers those of that time.

    The customer books if, and only if, the promise is at most `patience_min` minutes.
    """

    at: Instant
    pickup_zone: Zone
    dropoff_zone: Zone
    vehicle: Vehicle
    parcel_kg: ParcelKg | None = None
    patience_min: float


class IncidentStart(Wire):
    """Body of the city's token-guarded `POST /v1/incidents`: start a named incident now."""

    name: Annotated[str, Field(pattern=r"^[a-z-]{1,40}$")]
