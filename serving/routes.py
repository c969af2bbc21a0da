"""Serving's HTTP routes."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response

from chassis.feed_store import FeedStore
from chassis.problems import ProblemError, answer, documented
from chassis.tokens import requires
from contracts.estimates import EstimatesAnswer, EstimatesRequest, Rollout, RolloutCommand
from contracts.feeds import Event
from contracts.problems import TandemError
from contracts.trips import Instant, Wire
from serving.conductor import Conductor, Fleet, Role
from serving.desk import BundleMisbehaves, EstimateDesk, NoChampion, QueueFull
from serving.edge import ESTIMATES
from serving.journal import NotRecorded

# All of these are 503: the caller's request was good, and another time or a fallback will do.
RETRY_AFTER_S: dict[type[TandemError], tuple[str, float]] = {
    NoChampion: ("no-champion", 5),
    QueueFull: ("queue-full", 1),
    NotRecorded: ("not-recorded", 5),
    BundleMisbehaves: ("bundle-misbehaves", 30),
}


class BundleState(Wire):
    """A bundle in memory."""

    role: Role
    version: str
    trained_at: Instant
    snapshot_digest: str
    contract_fingerprint: str


class RolloutState(Rollout):
    """The rollout and the bundles that stand behind it."""

    bundles: list[BundleState]


def estimate_routes(desk: EstimateDesk) -> APIRouter:
    """The typed endpoint."""
    router = APIRouter(tags=["estimates"])

    @router.post(ESTIMATES, response_model=EstimatesAnswer, responses=documented(400, 413, 422, 503))
    async def estimate(request: EstimatesRequest) -> Response:
        """Quantiles of each trip's duration, or out of scope with the reason."""
        estimates = await desk.answer(request.trips)
        # Made of checked parts: checking the answer a second time would cost as much as estimating.
        answered = EstimatesAnswer.model_construct(estimates=estimates)
        return Response(answered.model_dump_json(exclude_none=True), media_type="application/json")

    return router


def rollout_routes(conductor: Conductor, store: FeedStore, control_token: str) -> APIRouter:
    """Who serves now, who did, and the control for people."""
    router = APIRouter(prefix="/v1/rollout", tags=["rollout"])

    @router.get("")
    async def show() -> RolloutState:
        """The rollout in force."""
        return _state(conductor.fleet)

    @router.get("/history", response_model=list[Event], responses=documented(422))
    def history(limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> Response:
        """The newest entries of the rollout feed, oldest first."""
        events = store.read(max(0, store.last_id() - limit), limit)
        return Response(f"[{','.join(events)}]", media_type="application/json")

    guard = Depends(requires("control", control_token))

    @router.post("", dependencies=[guard], responses=documented(400, 401, 409, 413, 422))
    def control(command: RolloutCommand) -> RolloutState:
        """Change the rollout by hand; the change enters the same log as decisions do."""
        return _state(conductor.command(command))

    return router


def answer_unavailable(app: FastAPI) -> None:
    """Translate the desk's errors to 503 problems that say when to try again."""

    async def unavailable(request: Request, error: Exception) -> Response:
        slug, retry_after_s = RETRY_AFTER_S[type(error)]  # type: ignore[index]
        return answer(ProblemError(503, slug, str(error), retry_after_s=retry_after_s), request.url.path)

    for kind in RETRY_AFTER_S:
        app.add_exception_handler(kind, unavailable)


def _state(fleet: Fleet) -> RolloutState:
    bundles = [
        BundleState(
            role=role,
            version=bundle.version,
            trained_at=bundle.manifest.trained_at,
            snapshot_digest=bundle.manifest.lineage.snapshot_digest,
            contract_fingerprint=bundle.manifest.contract_fingerprint,
        )
        for role, bundle in fleet.bundles.items()
    ]
    return RolloutState(**fleet.rollout.model_dump(), bundles=bundles)
