"""Asking serving for an estimate, within a budget, and not at all for a while when it keeps failing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import httpx
from pydantic import ValidationError

from contracts.estimates import TIMEOUT_HEADER, EstimatesAnswer, EstimatesRequest, Explanation, Quantiles
from contracts.trips import TripRequest

# Idle connections are dropped well before serving drops them, else a question may go out on a dying one.
LIMITS = httpx.Limits(max_keepalive_connections=32, keepalive_expiry=2)
Why = Literal["late", "unreachable", "refused", "wrong", "out_of_scope", "circuit_open"]


@dataclass(frozen=True, slots=True)
class Answered:
    """The model's estimate, with an explanation where one was asked for and could be given."""

    quantiles: Quantiles
    estimate_id: str
    bundle_version: str
    explanation: Explanation | None = None


@dataclass(frozen=True, slots=True)
class Unanswered:
    """No estimate, and why. Out of scope is serving's honest answer, everything else is a failure."""

    why: Why
    detail: str
    estimate_id: str | None = None
    bundle_version: str | None = None


class Breaker:
    """Opens after some failures in a row; while open, one attempt per `pause_s` wall seconds gets through to probe.

    >>> breaker = Breaker(failures_to_open=2, pause_s=1.0)
    >>> breaker.failed(now=0.0); breaker.failed(now=0.0)
    >>> [breaker.lets_through(now) for now in (0.5, 1.2, 1.3, 2.3)]
    [False, True, False, True]
    """

    def __init__(self, failures_to_open: int = 5, pause_s: float = 1.0) -> None:
        self.failures_to_open, self.pause_s = failures_to_open, pause_s
        self.failures = 0
        self.closed_until_probe = 0.0

    def lets_through(self, now: float) -> bool:
        """Whether to ask now. Letting a probe through holds back the others until its pause is over."""
        if self.failures < self.failures_to_open:
            return True
        if now < self.closed_until_probe:
            return False
        self.closed_until_probe = now + self.pause_s
        return True

    def failed(self, now: float) -> None:
        self.failures += 1
        self.closed_until_probe = now + self.pause_s

    def succeeded(self) -> None:
        self.failures = 0


class ServingClient:
    """Serving's estimates route over kept-alive connections. `budget_s` is wall time for everything: connecting,
    sending, waiting, reading."""

    def __init__(
        self, base_url: str, budget_s: float, breaker: Breaker, wall: Callable[[], float] = time.monotonic
    ) -> None:
        self.url, self.budget_s, self.breaker, self.wall = f"{base_url}/v1/estimates", budget_s, breaker, wall
        secure = base_url.startswith("https:")  # else no certificates need be loaded
        self.client = httpx.AsyncClient(timeout=budget_s, limits=LIMITS, verify=secure)
        self.headers = {"Content-Type": "application/json", TIMEOUT_HEADER: f"{max(1, round(budget_s * 1000))}"}

    async def estimate(self, trip: TripRequest, *, with_reasons: bool = False) -> Answered | Unanswered:
        """The model's answer for a trip, or why there is none. Never raises for what serving does."""
        if not self.breaker.lets_through(self.wall()):
            return Unanswered("circuit_open", "serving failed repeatedly; asked again once a second")
        answer = await self._ask(trip, with_reasons)
        if isinstance(answer, Answered) or answer.why == "out_of_scope":
            self.breaker.succeeded()
        else:
            self.breaker.failed(self.wall())
        return answer

    async def _ask(self, trip: TripRequest, with_reasons: bool) -> Answered | Unanswered:
        asked = EstimatesRequest(trips=[trip], with_reasons=with_reasons)
        body = asked.model_dump_json(exclude_defaults=True)  # a serving of before reasons refuses to hear of them
        try:
            async with asyncio.timeout(self.budget_s):
                got = await self.client.post(self.url, content=body, headers=self.headers)
        except (TimeoutError, httpx.TimeoutException):
            return Unanswered("late", f"no answer within {self.budget_s * 1000:g} ms")
        except httpx.HTTPError as error:
            return Unanswered("unreachable", f"{type(error).__name__}: {error}"[:200])
        if got.status_code != 200:
            return Unanswered("refused", f"status {got.status_code}: {got.text[:200]}")
        return read_answer(got.content, trip.trip_id)


def read_answer(body: bytes, trip_id: str) -> Answered | Unanswered:
    """Check an answer against the contract and the trip it is for; what a newer serving added is passed over."""
    try:
        estimates = EstimatesAnswer.model_validate_json(body, extra="ignore").estimates
    except ValidationError as error:
        first = error.errors()[0]
        return Unanswered("wrong", f"{'.'.join(map(str, first['loc'])) or 'body'}: {first['msg']}"[:200])
    if len(estimates) != 1 or estimates[0].trip_id != trip_id:
        return Unanswered("wrong", f"asked for trip {trip_id}, answered {[item.trip_id for item in estimates]}"[:200])
    only = estimates[0]
    if only.quantiles is None:
        return Unanswered("out_of_scope", only.reason or "no reason given", only.estimate_id, only.bundle_version)
    return Answered(only.quantiles, only.estimate_id, only.bundle_version, only.explanation)
