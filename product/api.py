"""The JSON API: customers quote, book, track and rate; couriers see jobs and report."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from chassis.problems import documented
from chassis.tokens import Tokens, requires
from contracts.bookings import CourierReport, Job, Quote, QuoteRequest, Rating, TripStatus
from contracts.problems import TandemError
from contracts.trips import TripId
from product.conditions import NoMapYet, UnknownZone
from product.desk import Desk
from product.ledger import UnknownTrip
from product.tracking import AlreadyRated, ImpossibleReport, NotBooked, NotEnded, QuoteExpired

HTTP_STATUS: dict[type[TandemError], int] = {
    UnknownZone: 422,
    ImpossibleReport: 422,
    UnknownTrip: 404,
    QuoteExpired: 410,
    NotBooked: 409,
    NotEnded: 409,
    AlreadyRated: 409,
    NoMapYet: 503,
}


def api_routes(desk: Desk, tokens: Tokens) -> APIRouter:
    """Routes under `/api`."""
    router = APIRouter(prefix="/api", responses=documented(400, 422))
    courier = [Depends(requires("courier", tokens))]

    @router.get("/zones", tags=["customers"], responses=documented(503))
    async def zones() -> list[dict[str, int | str]]:
        return [{"id": zone.zone, "name": zone.name, "group": zone.group} for zone in desk.city.zones().values()]

    @router.post("/quotes", tags=["customers"], responses=documented(503))
    async def quote(wish: QuoteRequest) -> Quote:
        return (await desk.quote(wish)).quote

    @router.post("/trips/{trip_id}", tags=["customers"], responses=documented(404, 410))
    def book(trip_id: TripId) -> TripStatus:
        return desk.book(trip_id)

    @router.get("/trips/{trip_id}", tags=["customers"], responses=documented(404))
    def track(trip_id: TripId) -> TripStatus:
        return desk.status(trip_id)

    @router.post("/trips/{trip_id}/rating", tags=["customers"], responses=documented(404, 409))
    def rate(trip_id: TripId, rating: Rating) -> TripStatus:
        return desk.rate(trip_id, rating)

    @router.get("/courier/jobs", tags=["couriers"], dependencies=courier, responses=documented(401))
    def jobs(
        after: Annotated[int, Query(ge=0, le=2**62)] = 0, limit: Annotated[int, Query(ge=1, le=1000)] = 500
    ) -> list[Job]:
        return desk.ledger.jobs(after, limit)

    @router.post(
        "/courier/trips/{trip_id}/reports", tags=["couriers"], dependencies=courier, responses=documented(401, 404, 409)
    )
    def report(trip_id: TripId, said: CourierReport) -> TripStatus:
        return desk.report(trip_id, said)

    return router
