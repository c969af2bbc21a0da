"""Serving's HTTP routes."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request, Response

from chassis.feed_store import FeedStore
from chassis.problems import documented
from chassis.tokens import Tokens, requires
from contracts.bundle import Lineage
from contracts.estimates import TIMEOUT_HEADER, EstimatesAnswer, EstimatesRequest, Rollout, RolloutCommand
from contracts.feeds import Event
from serving.conductor import Conductor, Fleet
from serving.desk import EstimateDesk
from serving.observation import ESTIMATES
from serving.rollout import Role

TimeoutMs = Annotated[
    int, Header(alias=TIMEOUT_HEADER, ge=1, le=999_999, description="Milliseconds that the caller will wait")
]


class RolloutState(Rollout):
    """The rollout, and where each bundle in memory comes from."""

    bundles: dict[Role, Lineage]


def estimate_routes(desk: EstimateDesk) -> APIRouter:
    """The typed endpoint."""
    router = APIRouter(tags=["estimates"])

    @router.post(ESTIMATES, response_model=EstimatesAnswer, responses=documented(400, 413, 422, 503))
    async def estimate(
        request: Request,
        asked: EstimatesRequest,
        timeout_ms: TimeoutMs = None,  # type: ignore[assignment]  # who sends it sends a number: null is none
    ) -> Response:
        """Quantiles of each trip's duration, or out of scope with the reason; on request what adds or saves minutes."""
        told = await desk.answer(asked.trips, asked.with_reasons, request.scope["caller"], timeout_ms)
        return Response(told, media_type="application/json")

    return router


def rollout_routes(conductor: Conductor, tokens: Tokens) -> APIRouter:
    """Who serves now, who did, and the control for people."""
    router = APIRouter(prefix="/v1/rollout", tags=["rollout"])
    store: FeedStore = conductor.store
    guard = Depends(requires("control", tokens))

    @router.get("")
    async def show() -> RolloutState:
        """The rollout in force."""
        return _state(conductor.fleet)

    @router.get("/history", response_model=list[Event], responses=documented(422))
    def history(limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> Response:
        """The newest entries of the rollout feed, oldest first."""
        events = store.read(max(0, store.last_id() - limit), limit)
        return Response(f"[{','.join(events)}]", media_type="application/json")

    @router.post("", dependencies=[guard], responses=documented(400, 401, 409, 413, 422))
    def control(command: RolloutCommand) -> RolloutState:
        """Change the rollout by hand; the change enters the same log as decisions do."""
        return _state(conductor.command(command))

    return router


def _state(fleet: Fleet) -> RolloutState:
    lineages = {role: bundle.manifest.lineage for role, bundle in fleet.bundles.items()}
    return RolloutState(**fleet.rollout.model_dump(), bundles=lineages)
