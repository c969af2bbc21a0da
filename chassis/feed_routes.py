"""`GET /feeds/<feed>`: a feed over HTTP, with long polling."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from chassis.feed_store import CursorTooOld, FeedStore
from chassis.problems import ProblemError, documented
from contracts.feeds import EVENT_MEDIA_TYPE, LONGEST_WAIT_S, MOST_EVENTS, Event

LOOK_AGAIN_S = 0.1  # how often a waiting request looks for new events


class EventBatch(JSONResponse):
    """A JSON batch of CloudEvents, each of them encoded already."""

    media_type = EVENT_MEDIA_TYPE

    def render(self, content: Sequence[str]) -> bytes:
        return f"[{','.join(content)}]".encode()


def feed_routes(*stores: FeedStore) -> APIRouter:
    """A router that serves these feeds."""
    router = APIRouter(tags=["feeds"])
    for store in stores:
        router.add_api_route(
            f"/feeds/{store.feed}",
            _reader(store),
            methods=["GET"],
            response_class=EventBatch,
            response_model=list[Event],
            responses=documented(410, 422),
            summary=f"Events of the {store.feed} feed after an id",
        )
    return router


def _reader(store: FeedStore):  # type: ignore[no-untyped-def]  # FastAPI reads the inner function's signature
    async def read_feed(
        last_event_id: Annotated[int, Query(alias="lastEventId", ge=0, le=2**62)] = 0,
        limit: Annotated[int, Query(ge=1, le=MOST_EVENTS)] = 500,
        timeout: Annotated[float, Query(ge=0, le=LONGEST_WAIT_S)] = 0,
    ) -> Response:
        patience = time.monotonic() + timeout
        while True:
            try:
                events = await run_in_threadpool(store.read, last_event_id, limit)
            except CursorTooOld as error:
                raise ProblemError(410, "cursor-too-old", str(error)) from error
            if events or time.monotonic() >= patience:
                return EventBatch(events)
            await asyncio.sleep(LOOK_AGAIN_S)

    return read_feed
