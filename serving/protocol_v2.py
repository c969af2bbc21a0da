"""The Open Inference Protocol v2 over HTTP, as KServe, Triton and MLServer speak it, for generic clients.

What it answers are no estimates: they belong to no trip, have no outcome and are not in the estimates feed. They are
the bundle's numbers under the same rules, though: the contract's ranges, the bundle's scope, never an unsound number.
The protocol has no word for a row without an answer, so one such row refuses its request.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version as installed
from typing import Annotated, Any

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from chassis.problems import MEDIA_TYPE, ProblemError, answer
from contracts.bundle import OUTPUT
from contracts.description import inlined
from contracts.problems import Problem
from contracts.trips import LEVELS
from serving.bundles import Batch, LoadedBundle, Said
from serving.conductor import Conductor, Fleet
from serving.metrics import Metrics
from serving.tensors import DATATYPES, INPUTS, InferAnswer, InferRequest, output, read, refusal, trips

MODEL = "tandem"
JSON_LENGTH = "Inference-Header-Content-Length"
AT_WORK = 2  # requests at once: their threads share one interpreter with everybody else's
MOST_INSIDE = 16  # those and the ones that wait for them


class InferenceProblem(Problem):
    """A problem, and `error`, which is where v2 clients look for what it says."""

    error: str


class ServerMetadata(BaseModel):
    """Who answers here."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(BaseModel):
    """An input or output; -1 stands for any number of rows."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(BaseModel):
    """The model's signature. `versions` are the bundles in memory, the champion first."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class WithError(APIRoute):
    """Answers every refusal as an `InferenceProblem`."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        """The route's handler, its refusals translated."""
        handle = super().get_route_handler()

        async def translated(request: Request) -> Response:
            try:
                handled: Response = await handle(request)
            except ProblemError as error:
                return _refusing(error, request)
            except RequestValidationError as error:
                return _refusing(refusal(error.errors()), request)
            except HTTPException as error:
                return _refusing(ProblemError(error.status_code, f"http-{error.status_code}", error.detail), request)
            return handled

        return translated


def _refusing(error: ProblemError, request: Request) -> Response:
    plain = answer(error, request.url.path)
    problem = json.loads(bytes(plain.body))
    headers = {name: value for name, value in plain.headers.items() if name == "retry-after"}
    return JSONResponse({"error": problem["detail"], **problem}, plain.status_code, headers, MEDIA_TYPE)


PROBLEM = {
    "model": InferenceProblem,
    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/InferenceProblem"}}},
}
PROBLEMS: dict[int | str, dict[str, Any]] = {"4XX": PROBLEM, 503: PROBLEM}
SCHEMA = InferRequest.model_json_schema()
ONE_TRIP = {  # three kilometres by bike on Monday at nine, nothing else known
    "minute_of_week": 540,
    "pickup_zone": 4,
    "dropoff_zone": 31,
    "distance_km": 3.0,
}
BYTES = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
INFER = {  # OpenAPI of a body that FastAPI must not read: bytes may follow the JSON
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": inlined(SCHEMA, SCHEMA["$defs"]),
                "example": {
                    "inputs": [
                        {
                            "name": name,
                            "shape": [1],
                            "datatype": DATATYPES[item.dtype][0],
                            "data": [None if item.nullable else ONE_TRIP.get(name, 0)],
                        }
                        for name, item in INPUTS.items()
                    ]
                },
            },
            **BYTES,
        },
    }
}


def protocol_v2_routes(
    conductor: Conductor, ready: Callable[[], str | None], metrics: Metrics, longest_run_s: float = 0.5
) -> APIRouter:
    """The protocol's routes for one model, `tandem`, whose versions are the bundles in memory.

    `ready` answers why the service isn't ready, or None. A run of the graph takes at most `longest_run_s`.
    """
    router = APIRouter(prefix="/v2", tags=["open inference protocol"], route_class=WithError)
    desk = InferDesk(metrics, longest_run_s)
    about = ServerMetadata(name=MODEL, version=installed("tandem-couriers"), extensions=["binary_tensor_data"])

    @router.get("")
    async def server() -> ServerMetadata:
        """Name, version and extensions of this server."""
        return about

    @router.get("/health/live")
    async def live() -> dict[str, bool]:
        """Whether the process answers."""
        return {"live": True}

    @router.get("/health/ready", responses={503: PROBLEM})
    async def is_ready() -> dict[str, bool]:
        """Whether requests will be answered."""
        if (reason := ready()) is not None:
            raise ProblemError(503, "not-ready", reason, retry_after_s=1)
        return {"ready": True}

    async def champion(name: str) -> LoadedBundle:
        return _bundle(conductor.fleet, name)

    async def named(name: str, version: str) -> LoadedBundle:
        return _bundle(conductor.fleet, name, version)

    for path, chosen in (("/models/{name}", champion), ("/models/{name}/versions/{version}", named)):
        there = [Depends(chosen)]

        @router.get(path, responses=PROBLEMS, dependencies=there)
        async def metadata() -> ModelMetadata:
            """Names, shapes and datatypes of the inputs and the output; the same for all versions."""
            return _metadata(conductor.fleet)

        @router.get(f"{path}/ready", responses=PROBLEMS, dependencies=there)
        async def model_is_ready() -> dict[str, str | bool]:
            """Whether this version answers."""
            return {"name": MODEL, "ready": True}

        answers: dict[int | str, dict[str, Any]] = {200: {"content": BYTES}, **PROBLEMS}

        @router.post(f"{path}/infer", response_model=InferAnswer, responses=answers, openapi_extra=INFER)
        async def infer(
            request: Request,
            bundle: LoadedBundle = Depends(chosen),
            json_bytes: Annotated[int | None, Header(alias=JSON_LENGTH, ge=1)] = None,
        ) -> Response:
            """Quantiles in minutes for 1 to 256 rows of model inputs; NaN or null where an input that may miss does.

            They are no estimates and enter no feed. A row outside the bundle's scope refuses the request. Bytes may
            follow the JSON, in requests and answers, as the protocol's binary extension says.
            """
            return await desk.answer(bundle, await request.body(), json_bytes)

    return router


class InferDesk:
    """Answers requests off the event loop, few at once; when too many wait, with a quick 503. `inside` counts requests
    at work or waiting, and is touched by the event loop's thread alone."""

    def __init__(self, metrics: Metrics, longest_run_s: float) -> None:
        self.metrics, self.longest_run_s, self.inside = metrics, longest_run_s, 0
        self._places = CapacityLimiter(AT_WORK)

    async def answer(self, bundle: LoadedBundle, body: bytes, json_bytes: int | None) -> Response:
        """The answer to a request's body. Raises `ProblemError`."""
        if self.inside >= MOST_INSIDE:
            detail = f"{self.inside} inference requests are inside already, at most {MOST_INSIDE} may"
            raise ProblemError(503, "queue-full", detail, retry_after_s=1)
        self.inside += 1
        try:
            return await to_thread.run_sync(partial(self._answer, bundle, body, json_bytes), limiter=self._places)
        finally:
            self.inside -= 1

    def _answer(self, bundle: LoadedBundle, body: bytes, json_bytes: int | None) -> Response:
        asked, columns = read(body, json_bytes)
        binary = asked.binary()
        said = bundle.answer(Batch(trips(columns, bundle.zone)), self.longest_run_s)
        for words in said:
            self.metrics.inferred.labels(words.status).inc()
        tensor, behind = output(_minutes(bundle, said), binary=binary)
        told = InferAnswer(model_name=MODEL, model_version=bundle.version, id=asked.id, outputs=[tensor])
        head = told.model_dump_json(exclude_none=True).encode()
        if not binary:
            return Response(head, media_type="application/json")
        return Response(head + behind, 200, {JSON_LENGTH: str(len(head))}, "application/octet-stream")


def _minutes(bundle: LoadedBundle, said: Sequence[Said]) -> list[tuple[float, float, float]]:
    found = [words.minutes for words in said if words.minutes is not None]
    if len(found) == len(said):
        return found
    row, words = next((row, words) for row, words in enumerate(said) if words.minutes is None)
    if words.status == "out_of_scope":
        raise refusal([{"type": "value_error", "loc": ("inputs", "data", row), "input": None, "msg": words.reason}])
    detail = f"bundle {bundle.version} on row {row}: {words.reason}; roll it back"
    raise ProblemError(503, "bundle-misbehaves", detail, retry_after_s=30)


def _bundle(fleet: Fleet, name: str, version: str | None = None) -> LoadedBundle:
    """The version that is asked for, else the champion."""
    if name != MODEL:
        raise ProblemError(404, "unknown-model", f"no model {name!r}: the only one is {MODEL!r}")
    if version is None:
        if "champion" not in fleet.bundles:
            raise ProblemError(503, "no-champion", "no bundle serves yet: wait for the first release", retry_after_s=5)
        return fleet.bundles["champion"]
    for bundle in fleet.bundles.values():
        if bundle.version == version:
            return bundle
    raise ProblemError(404, "unknown-version", f"no version {version!r} in memory: {_versions(fleet)} are")


def _metadata(fleet: Fleet) -> ModelMetadata:
    return ModelMetadata(
        name=MODEL,
        versions=_versions(fleet),
        platform="onnx_onnxv1",
        inputs=[
            TensorMetadata(name=item.name, datatype=DATATYPES[item.dtype][0], shape=[-1]) for item in INPUTS.values()
        ],
        outputs=[TensorMetadata(name=OUTPUT, datatype=DATATYPES["float32"][0], shape=[-1, len(LEVELS)])],
    )


def _versions(fleet: Fleet) -> list[str]:
    return [bundle.version for bundle in fleet.bundles.values()]
