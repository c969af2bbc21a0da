"""The Open Inference Protocol v2, asked by a client that we did not write, and by callers who break its rules."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from contracts import requirements
from contracts.bundle import OUTPUT
from contracts.estimates import LARGEST_BATCH
from contracts.trips import MODEL_INPUTS, TripRequest, model_inputs
from serving.bundles import load
from serving.metrics import Metrics
from serving.protocol_v2 import JSON_LENGTH, MOST_INSIDE, InferDesk
from serving.tensors import WEEK_MIN, trips
from serving.watchdog import Watch
from tests.bundles import SOUND_UP_TO_KM, a_trip, make_bundle
from tests.serving.conftest import Service, a_champion, a_place

BERLIN = ZoneInfo("Europe/Berlin")
DATATYPES = {"int64": "INT64", "float32": "FP32"}
A_DAY_OF_TRIPS = [
    a_trip(
        f"t-{hour}",
        requested_at=f"2026-11-0{hour % 7 + 1}T{hour:02}:17:31+01:00",
        distance_km=0.05 + hour * 1.7,
        vehicle=("bike", "scooter", "van", "car")[hour % 4],
        parcel_kg=None if hour % 2 else 1.5,
        rain_mm_h=None if hour % 3 else hour / 4,
        temperature_c=None if hour % 5 else -7.5,
        city_pace=None if hour % 7 else 1.3,
    )
    for hour in range(24)
]

Columns = dict[str, Any]


@pytest.fixture(scope="module")
def triton():
    """NVIDIA's client for Triton, from PyPI."""
    import tritonclient.http

    return tritonclient.http


@pytest.fixture(scope="module")
def service(tmp_path_factory) -> Iterator[Service]:
    """Champion 1 and challenger 2, whose answers depend on time, rain and pace."""
    with a_place(tmp_path_factory.mktemp("v2")) as place, a_champion(place, heeds_conditions=True) as service:
        place.upstream.release(make_bundle(place.bundles, "2", minutes_per_km=4.0, heeds_conditions=True))
        service.until_serving(challenger="2")
        yield service


@pytest.fixture
def client(triton, service) -> Iterator[Any]:
    with triton.InferenceServerClient(str(service.client.base_url).removeprefix("http://")) as client:
        yield client


def arrays(asked: list[TripRequest]) -> dict[str, np.ndarray]:
    columns = model_inputs(asked, BERLIN)
    return {item.name: np.array(columns[item.name], item.dtype) for item in MODEL_INPUTS}


def tensors(triton, columns: Mapping[str, np.ndarray], binary: bool) -> list:
    """Inputs as tritonclient sends them."""
    found = []
    for item in MODEL_INPUTS:
        tensor = triton.InferInput(item.name, [len(columns[item.name])], DATATYPES[item.dtype])
        tensor.set_data_from_numpy(columns[item.name], binary_data=binary)
        found.append(tensor)
    return found


def body(columns: Columns | None = None, **more: Any) -> dict[str, Any]:
    """A request in JSON: one good trip, with some columns changed."""
    good = {name: array.tolist() for name, array in arrays([a_trip()]).items()}
    inputs = [
        {
            "name": item.name,
            "shape": [len(column := (columns or {}).get(item.name, good[item.name]))],
            "datatype": DATATYPES[item.dtype],
            "data": column,
        }
        for item in MODEL_INPUTS
    ]
    return {"inputs": inputs} | more


def sent(service: Service, what: dict[str, Any], path: str = "/v2/models/tandem/infer"):
    return service.client.post(path, content=json.dumps(what))  # Python writes NaN where JSON has no word for it


def test_a_foreign_client_learns_who_is_there(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("tandem")
    assert client.is_model_ready("tandem", "2")
    assert not client.is_model_ready("tandem", "3")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]


@pytest.mark.parametrize("version", ["", "1", "2"])
def test_a_foreign_client_learns_the_graphs_own_signature(client, version):
    told = client.get_model_metadata("tandem", version)
    assert (told["name"], told["versions"]) == ("tandem", ["1", "2"])
    assert [(it["name"], it["datatype"], it["shape"]) for it in told["inputs"]] == [
        (item.name, DATATYPES[item.dtype], [-1]) for item in MODEL_INPUTS
    ]
    assert told["outputs"] == [{"name": OUTPUT, "datatype": "FP32", "shape": [-1, 3]}]


@pytest.mark.parametrize("asks_binary", [None, True, False])
@pytest.mark.parametrize("sends_binary", [True, False])
def test_a_foreign_client_gets_the_numbers_that_estimates_have(triton, client, service, sends_binary, asks_binary):
    inputs = tensors(triton, arrays(A_DAY_OF_TRIPS), sends_binary)
    outputs = None if asks_binary is None else [triton.InferRequestedOutput(OUTPUT, binary_data=asks_binary)]

    answer = client.infer("tandem", inputs, request_id="r-17", outputs=outputs, priority=3, timeout=1000)

    estimates = service.estimate(*A_DAY_OF_TRIPS).json()["estimates"]
    expected = [[it["quantiles"][name] for name in ("p10_min", "p50_min", "p90_min")] for it in estimates]
    found = answer.as_numpy(OUTPUT)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)  # an estimate is written with seven digits
    told = answer.get_response()
    assert (told["id"], told["model_name"], told["model_version"]) == ("r-17", "tandem", "1")
    assert ("data" in told["outputs"][0]) == (asks_binary is False)


def test_a_version_names_any_bundle_in_memory(triton, client):
    inputs = tensors(triton, arrays([a_trip(distance_km=10)]), True)
    champion = client.infer("tandem", inputs)
    challenger = client.infer("tandem", inputs, model_version="2")
    assert challenger.get_response()["model_version"] == "2"
    difference = challenger.as_numpy(OUTPUT)[0, 1] - champion.as_numpy(OUTPUT)[0, 1]
    assert difference == pytest.approx(20, abs=0.01)  # two minutes a kilometre more


def test_a_foreign_client_reads_our_refusals(triton, client):
    from tritonclient.utils import InferenceServerException

    good = arrays([a_trip()])
    for name, version, columns, says in (
        ("bandem", "", good, "no model 'bandem': the only one is 'tandem'"),
        ("tandem", "3", good, "no version '3' in memory: ['1', '2'] are"),
        ("tandem", "", good | {"distance_km": np.float32([-1])}, "inputs.distance_km.data.0: Input should be greater"),
    ):
        with pytest.raises(InferenceServerException) as caught:
            client.infer(name, tensors(triton, columns, True), model_version=version)
        assert says in caught.value.message()
        assert caught.value.status() == ("404" if columns is good else "400")


def test_what_is_answered_is_no_estimate(triton, client, service):
    before, counted = len(service.feed("estimates")), service.metric('tandem_inferred_rows_total{status="estimated"}')
    client.infer("tandem", tensors(triton, arrays(A_DAY_OF_TRIPS), True))
    assert len(service.feed("estimates")) == before
    assert service.metric('tandem_inferred_rows_total{status="estimated"}') == counted + 24


NAN = float("nan")
LONG = LARGEST_BATCH + 1


def test_no_input_is_taken_for_another():
    columns = model_inputs(A_DAY_OF_TRIPS, BERLIN)
    again = model_inputs(trips(columns, BERLIN), BERLIN)
    for name, column in columns.items():
        np.testing.assert_array_equal(again[name], column, err_msg=name)


def without(what: dict[str, Any], name: str) -> dict[str, Any]:
    return what | {"inputs": [tensor for tensor in what["inputs"] if tensor["name"] != name]}


def with_tensor(name: str, /, **changes: Any) -> dict[str, Any]:
    what = body()
    (tensor,) = [it for it in what["inputs"] if it["name"] == name]
    tensor.update(changes)
    return what


@pytest.mark.parametrize(
    ("what", "field", "value", "rule"),
    [
        ([1], "body", None, "object"),
        ({}, "inputs", None, "required"),
        ({"inputs": {}}, "inputs", None, "valid array"),
        (body(id=7), "id", 7, "string"),
        (without(body(), "vehicle"), "inputs", None, "must hold vehicle"),
        (with_tensor("vehicle", name="truck"), "inputs.name", "truck", "once"),
        (with_tensor("vehicle", name="distance_km"), "inputs.name", "distance_km", "once"),
        (with_tensor("vehicle", datatype="INT32"), "inputs.vehicle.datatype", "INT32", "must be INT64"),
        (with_tensor("vehicle", datatype="FP32"), "inputs.vehicle.datatype", "FP32", "must be INT64"),
        (with_tensor("vehicle", shape=[1, 1]), "inputs.vehicle.shape", "[1, 1]", "one dimension"),
        (with_tensor("vehicle", shape=[]), "inputs.vehicle.shape", "[]", "one dimension"),
        (with_tensor("vehicle", shape=[-1]), "inputs.vehicle.shape", "[-1]", "one dimension"),
        (with_tensor("vehicle", shape=[2]), "inputs.vehicle.data", "1 values", "must be 2 values"),
        (with_tensor("vehicle", data=None), "inputs.vehicle.data", "nothing", "must be 1 values"),
        (with_tensor("vehicle", shape=[2], data=[1, 1]), "inputs", None, "equal length"),
        (body({item.name: [1] * LONG for item in MODEL_INPUTS}), None, f"[{LONG}]", f"1 to {LARGEST_BATCH}"),
        (body({item.name: [] for item in MODEL_INPUTS}), None, "[0]", "1 to"),
        (body(outputs=[{"name": "minutes"}]), "outputs.name", "minutes", f"must be {OUTPUT}"),
        (body({"distance_km": [NAN]}), "inputs.distance_km.data.0", "nan", "finite"),
        (body({"distance_km": [None]}), "inputs.distance_km.data.0", None, "valid number"),
        (body({"distance_km": ["3"]}), "inputs.distance_km.data.0", "3", "number"),
        (body({"distance_km": [True]}), "inputs.distance_km.data.0", True, "number"),
        (body({"rain_mm_h": [float("inf")]}), "inputs.rain_mm_h.data.0", "inf", "finite"),
        (body({"rain_mm_h": [-0.1]}), "inputs.rain_mm_h.data.0", -0.1, "greater than or equal to 0"),
        (body({"pickup_zone": [-1]}), "inputs.pickup_zone.data.0", -1, "greater than or equal to 1"),
        (body({"pickup_zone": [0]}), "inputs.pickup_zone.data.0", 0, "greater than or equal to 1"),
        (body({"dropoff_zone": [1024]}), "inputs.dropoff_zone.data.0", 1024, "less than or equal to 1023"),
        (body({"dropoff_zone": [2**70]}), "inputs.dropoff_zone.data.0", 2**70, "less than or equal"),
        (body({"dropoff_zone": [3.5]}), "inputs.dropoff_zone.data.0", 3.5, "valid integer"),
        (body({"vehicle": [4]}), "inputs.vehicle.data.0", 4, "from 0 to 3"),
        (body({"vehicle": [-1]}), "inputs.vehicle.data.0", -1, "from 0 to 3"),
        (body({"vehicle": [NAN]}), "inputs.vehicle.data.0", "nan", "from 0 to 3"),
        (body({"minute_of_week": [WEEK_MIN]}), "inputs.minute_of_week.data.0", WEEK_MIN, "from 0 to 10079"),
        (body({"minute_of_week": [True]}), "inputs.minute_of_week.data.0", True, "from 0 to 10079"),
        (body({"pickup_zone": [61]}), "inputs.data.0", None, "pickup_zone 61 is not among the 60 zones"),
    ],
)
def test_what_breaks_a_rule_is_refused_by_field_value_and_rule(service, what, field, value, rule):
    answer = sent(service, what)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json"), answer.text
    problem = answer.json()
    (fault, *_) = problem["errors"]
    assert problem["error"] == problem["detail"]
    assert problem["status"] == 400
    assert field in (None, fault["field"])
    assert rule in fault["rule"]
    assert value in (None, fault.get("value"))
    assert rule in problem["detail"]


@pytest.mark.parametrize("sound", [{"rain_mm_h": [None]}, {"rain_mm_h": [NAN]}, {"parcel_kg": [500]}, {"vehicle": [3]}])
def test_what_looks_odd_and_breaks_no_rule_is_answered(service, sound):
    assert sent(service, body(sound)).status_code == 200


def test_the_row_at_fault_is_named_among_many(service):
    columns = {name: array.tolist() for name, array in arrays(A_DAY_OF_TRIPS).items()}
    columns["city_pace"][17] = 20.5
    problem = sent(service, body(columns)).json()
    assert problem["errors"] == [
        {"field": "inputs.city_pace.data.17", "value": 20.5, "rule": "Input should be less than or equal to 20"}
    ]


def a_binary_body() -> tuple[bytes, bytes]:
    """JSON, and the bytes behind it."""
    head, behind = body(), b""
    for tensor, array in zip(head["inputs"], arrays([a_trip()]).values(), strict=True):
        del tensor["data"]
        tensor["parameters"] = {"binary_data_size": array.nbytes}
        behind += array.tobytes()
    return json.dumps(head).encode(), behind


def test_bytes_that_do_not_fit_their_sizes_are_refused(service):
    head, behind = a_binary_body()
    claims = {"sizes": head.replace(b'"binary_data_size": 8', b'"binary_data_size": 7', 1)}
    claims["true"] = head.replace(b'"binary_data_size": 8', b'"binary_data_size": true', 1)
    claims["text"] = head.replace(b'"binary_data_size": 8', b'"binary_data_size": "8"', 1)
    claims["decimals"] = head.replace(b'"binary_data_size": 8', b'"binary_data_size": 8.0', 1)
    claims["minus"] = head.replace(b'"binary_data_size": 8', b'"binary_data_size": -8', 1)
    claims["both"] = head.replace(b'"parameters"', b'"data": [540], "parameters"', 1)

    def status(content: bytes, length: object) -> int:
        answer = service.client.post("/v2/models/tandem/infer", content=content, headers={JSON_LENGTH: str(length)})
        if answer.status_code != 200:
            assert answer.json()["error"]
        return answer.status_code

    assert status(head + behind, len(head)) == 200
    assert status(head + behind[:-1], len(head)) == 400
    assert status(head + behind + b"x", len(head)) == 400
    assert status(head + behind, len(head) - 1) == 400
    assert status(head + behind, len(head) + 1) == 400
    assert {name: status(claim + behind, len(claim)) for name, claim in claims.items()} == dict.fromkeys(claims, 400)
    for length in (0, -1, 10**9, "many", "1.5"):
        assert status(head + behind, length) == 400, length


def test_too_large_a_body_is_refused_in_the_protocols_words(service):
    answer = sent(service, body(id="x" * 1_100_000))
    assert (answer.status_code, "more than" in answer.json()["error"]) == (413, True)


@pytest.mark.parametrize("path", ["", "/ready"])
def test_what_there_is_not_is_told_in_the_protocols_words(service, path):
    for name in ("models/bandem", "models/tandem/versions/3", "models/bandem/versions/1"):
        answer = service.client.get(f"/v2/{name}{path}")
        assert (answer.status_code, "no " in answer.json()["error"]) == (404, True)


def test_without_a_champion_nothing_is_ready(place):
    with place.serving() as service:
        assert service.client.get("/v2/health/live").json() == {"live": True}
        for path in ("health/ready", "models/tandem/ready", "models/tandem"):
            answer = service.client.get(f"/v2/{path}")
            assert (answer.status_code, bool(answer.json()["error"])) == (503, True)
            assert int(answer.headers["retry-after"]) > 0
        assert sent(service, body()).status_code == 503


@pytest.mark.parametrize("fault", ["nan", "crossing", "throws"])
def test_an_unsound_answer_reaches_no_foreign_client(place, fault):
    with a_champion(place, misbehaves=fault) as service:
        answer = sent(service, body({"distance_km": [SOUND_UP_TO_KM + 1]}))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
        assert "bundle 1 on row 0" in answer.json()["error"]
        assert service.metric('tandem_inferred_rows_total{status="misbehaved"}') == 1


def test_a_hanging_graph_costs_callers_its_limit_and_holds_nobody_else_up(tmp_path):
    make_bundle(tmp_path, "1", misbehaves="hangs")
    bundle = load(tmp_path, "1", None, Watch())
    desk = InferDesk(Metrics(requirements.load()), longest_run_s=0.2)
    endless = json.dumps(body({"distance_km": [SOUND_UP_TO_KM + 1]})).encode()

    async def crowd() -> tuple[list[Any], list[float]]:
        callers = [asyncio.create_task(desk.answer(bundle, endless, None)) for _ in range(MOST_INSIDE + 4)]
        turns = [time.monotonic()]
        while not all(caller.done() for caller in callers):
            await asyncio.sleep(0.001)
            turns.append(time.monotonic())
        return await asyncio.gather(*callers, return_exceptions=True), turns

    problems, turns = asyncio.run(crowd())

    told = Counter((problem.status, problem.slug) for problem in problems)
    assert told == {(503, "bundle-misbehaves"): MOST_INSIDE, (503, "queue-full"): 4}
    assert all(problem.retry_after_s > 0 for problem in problems)
    assert max(after - before for before, after in pairwise(turns)) < 0.15  # the event loop went on


@pytest.mark.parametrize(
    "zone", ["Europe/Berlin", "America/New_York", "Pacific/Apia", "Africa/Casablanca", "Asia/Kathmandu"]
)
def test_every_minute_of_the_week_is_read_back_as_it_was_sent(zone):
    minutes = list(range(WEEK_MIN))
    good = model_inputs([a_trip()], BERLIN)
    columns = {name: column * WEEK_MIN for name, column in good.items()} | {"minute_of_week": minutes}
    found = trips(columns, ZoneInfo(zone))
    assert model_inputs(found, ZoneInfo(zone))["minute_of_week"] == minutes
    start = datetime.fromisoformat("2026-06-01T00:00").replace(tzinfo=ZoneInfo(zone))
    assert found[-1].requested_at == start + timedelta(minutes=WEEK_MIN - 1)
