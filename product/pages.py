"""The pages: quote, track, dispatch. Faults become a page too, in plain words."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import ValidationError

from chassis.problems import log_fault
from chassis.sql import DatabaseAway
from chassis.tokens import Tokens
from contracts.bookings import QuoteRequest, Rating
from contracts.problems import TandemError
from contracts.trips import VEHICLES, TripId, Vehicle
from product.api import HTTP_STATUS
from product.conditions import NoMapYet
from product.desk import Desk
from product.ledger import UnknownTrip
from product.promise import BACK_PER_LATE_MIN
from product.reasons import in_words
from product.tracking import OPEN_STATES, STATES

HERE = Path(__file__).parent
MOST_LISTED = 100
SOON = {"Retry-After": "2"}
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def static_files() -> StaticFiles:
    """Style, script, icon and the vendored htmx: no page asks anyone else for anything."""
    return StaticFiles(directory=HERE / "static")


def page_routes(desk: Desk, tokens: Tokens) -> APIRouter:
    """Routes for people."""
    templates = Environment(
        loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )

    def hour(at: datetime) -> str:
        """City time of day, with the weekday where that is not today."""
        local, today = at.astimezone(desk.clock.zone), desk.clock.now().astimezone(desk.clock.zone)
        return local.strftime("%H:%M" if local.date() == today.date() else "%a %H:%M")

    templates.filters["hour"] = hour
    templates.filters["euro"] = lambda amount: f"€\u202f{amount:,.2f}"

    def page(template: str, status: int = 200, headers: dict[str, str] | None = None, **values: Any) -> Response:
        html = templates.get_template(template).render(values, now=desk.clock.now(), back=BACK_PER_LATE_MIN)
        return Response(html, status, headers, "text/html; charset=utf-8")

    class Page(APIRoute):
        """A route whose faults are shown as a page, or as a part of one where htmx asks."""

        def get_route_handler(self) -> Handler:
            plain = super().get_route_handler()

            async def handle(request: Request) -> Response:
                answer = await answered(request)
                answer.headers["Vary"] = "HX-Request"  # else Back shows the part of a page that a browser kept last
                return answer

            async def answered(request: Request) -> Response:
                partial, trip = "HX-Request" in request.headers, request.path_params.get("trip_id")
                try:
                    return await plain(request)
                except NoMapYet:
                    return page("notice.html", 503, SOON, kind="starting", text="", partial=partial, trip=trip)
                except (RequestValidationError, ValidationError) as error:
                    first = error.errors()[0]
                    text = f"{str(first['loc'][-1]).replace('_', ' ').capitalize()}: {first['msg']}."
                    return page("notice.html", 422, kind="form", text=text, partial=partial, trip=trip)
                except TandemError as error:
                    if (known := HTTP_STATUS.get(type(error))) is not None:
                        there = None if isinstance(error, UnknownTrip) else trip
                        return page("notice.html", known, kind="fault", text=str(error), partial=partial, trip=there)
                    status, more = (503, SOON) if isinstance(error, DatabaseAway) else (500, None)
                    reference = log_fault(request, error)  # what it says may be none of the customer's business
                    return page("notice.html", status, more, kind="ours", text=reference, partial=partial, trip=trip)

            return handle

    router = APIRouter(route_class=Page, include_in_schema=False)

    @router.get("/")
    def quote_form() -> Response:
        return page("quote.html", city=desk.city.known().map, vehicles=VEHICLES, quote=None, asked=None)

    @router.post("/quotes")
    async def quote(
        request: Request,
        pickup_zone: Annotated[int, Form()],
        dropoff_zone: Annotated[int, Form()],
        vehicle: Annotated[Vehicle, Form()],
        parcel_kg: Annotated[float | None, Form()] = None,
    ) -> Response:
        wish = QuoteRequest(pickup_zone=pickup_zone, dropoff_zone=dropoff_zone, vehicle=vehicle, parcel_kg=parcel_kg)
        offer = await desk.quote(wish, with_reasons=True)
        reasons = None if offer.explanation is None else in_words(offer.explanation)
        template = "_offer.html" if "HX-Request" in request.headers else "quote.html"
        return page(
            template,
            city=desk.city.known().map,
            zones=desk.city.zones(),
            vehicles=VEHICLES,
            asked=wish,
            asked_at=offer.quote.promised_by - timedelta(minutes=offer.quote.promised_min),
            quote=offer.quote,
            reasons=reasons,
        )

    @router.post("/trips/{trip_id}/book")
    def book(trip_id: TripId) -> Response:
        desk.book(trip_id)
        return RedirectResponse(f"/trips/{trip_id}", 303)

    @router.get("/trips/{trip_id}")
    def track(request: Request, trip_id: TripId) -> Response:
        trip, live = desk.status(trip_id), "HX-Request" in request.headers
        if live and trip.state not in OPEN_STATES:
            return Response(headers={"HX-Refresh": "true"})  # the last look: the whole page, which polls no more
        return page("_live.html" if live else "trip.html", trip=trip, zones=desk.city.zones())

    @router.post("/trips/{trip_id}/rating")
    def rate(trip_id: TripId, stars: Annotated[int, Form()], comment: Annotated[str, Form()] = "") -> Response:
        desk.rate(trip_id, Rating(stars=stars, comment=comment.replace("\r\n", "\n")))  # as the form counted it
        return RedirectResponse(f"/trips/{trip_id}", 303)

    def is_staff(token: str | None) -> bool:
        return tokens.accepts("staff", token or "")

    @router.get("/dispatch")
    def dispatch(request: Request) -> Response:
        sent = request.cookies.get("staff") or request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not is_staff(sent):
            if "HX-Request" in request.headers:  # a board that renews itself: the whole page, which asks for the token
                return Response(status_code=401, headers={"HX-Refresh": "true"})
            return page("login.html", 401, wrong=False)
        now, ledger = desk.clock.now(), desk.ledger
        sources = ledger.counts("source", since=now - timedelta(hours=1))
        return page(
            "dispatch.html",
            trips=ledger.open_trips(MOST_LISTED),
            open=ledger.count_open(),
            counts=ledger.counts("state", since=now - timedelta(hours=24)),
            states=STATES,
            quotes=sum(sources.values()),
            fallback=sources.get("fallback", 0),
            zones=desk.city.zones(),
        )

    @router.post("/dispatch")
    def log_in(token: Annotated[str, Form()] = "") -> Response:
        if not is_staff(token.strip()):
            return page("login.html", 401, wrong=True)
        answer = RedirectResponse("/dispatch", 303)
        answer.set_cookie("staff", token.strip(), httponly=True, samesite="strict", path="/dispatch")
        return answer

    return router
