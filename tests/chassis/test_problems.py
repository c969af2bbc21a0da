"""Errors at the edge: each is a problem, says what to do, and gives nothing away."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Annotated

import httpx
import pytest
from fastapi import APIRouter, Depends, Query
from prometheus_client import CollectorRegistry

from chassis.problems import MEDIA_TYPE
from chassis.service import make_app
from chassis.sql import DatabaseAway
from chassis.tokens import Tokens, requires
from contracts.problems import TandemError
from contracts.trips import Wire, Zone
from tests.servers import running


class NotYet(TandemError):
    """In the service's table."""


class Forgotten(TandemError):
    """In no table."""


class Asked(Wire):
    """A body."""

    zone: Zone


@pytest.fixture(scope="module")
def service(tmp_path_factory) -> Iterator[httpx.Client]:
    file = tmp_path_factory.mktemp("edges") / "tokens"
    file.write_text('{"courier": "c", "staff": "the-token", "control": "o"}')
    app = make_app("edges", CollectorRegistry(), ready=lambda: None, statuses={NotYet: 503})
    router = APIRouter(prefix="/things")

    @router.get("")
    def read(fails: Annotated[str, Query()] = "") -> str:
        if fails == "not yet":
            raise NotYet("the map has not arrived: ask again in a moment")
        if fails == "forgotten":
            raise Forgotten("the secret file /etc/tandem is not there")
        if fails == "database":
            raise DatabaseAway("(OperationalError) database is locked [SQL: BEGIN IMMEDIATE]")
        return f"{1 / len('x' if fails != 'bug' else '')}"

    @router.post("", dependencies=[Depends(requires("staff", Tokens(file)))])
    def write(asked: Asked) -> int:
        return asked.zone

    app.include_router(router)
    with running(app) as url, httpx.Client(base_url=url) as client:
        yield client


@pytest.mark.parametrize("kind", ["bug", "forgotten"])
def test_a_fault_is_a_problem_that_leads_to_the_log_and_gives_nothing_away(service, caplog, kind):
    with caplog.at_level(logging.ERROR, "chassis.problems"):
        answer = service.get("/things", params={"fails": kind})

    assert (answer.status_code, answer.headers["content-type"]) == (500, MEDIA_TYPE)
    assert answer.json()["type"] == "/problems/fault"
    assert "division" not in answer.text
    assert "secret" not in answer.text
    [logged] = [record for record in caplog.records if record.name == "chassis.problems"]
    reference = logged.args[0]
    assert reference in answer.json()["detail"]
    assert logged.exc_info[0] in (ZeroDivisionError, Forgotten)


def test_a_database_that_is_away_is_no_fault_for_ever_and_its_words_stay_in_the_log(service, caplog):
    with caplog.at_level(logging.ERROR, "chassis.problems"):
        answer = service.get("/things", params={"fails": "database"})
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/database-away")
    assert int(answer.headers["Retry-After"]) > 0
    assert "SQL" not in answer.text
    [logged] = [record for record in caplog.records if record.name == "chassis.problems"]
    assert logged.args[0] in answer.json()["detail"]


def test_whoever_is_told_to_come_back_is_told_when(service):
    answer = service.get("/things", params={"fails": "not yet"})
    assert answer.status_code == 503
    assert "not arrived" in answer.json()["detail"]
    assert int(answer.headers["Retry-After"]) > 0
    assert service.get("/things").headers.get("Retry-After") is None


def test_a_wrong_method_learns_every_right_one(service):
    answer = service.delete("/things")
    assert (answer.status_code, answer.headers["content-type"]) == (405, MEDIA_TYPE)
    assert answer.headers["Allow"] == "GET, POST"


@pytest.mark.parametrize("header", [None, "Bearer wrong", "Basic dGhlLXRva2Vu", "the-token", "Bearer"])
def test_without_the_token_nobody_gets_in_and_the_scheme_is_named(service, header):
    headers = {"Authorization": header} if header else {}
    answer = service.post("/things", json={"zone": 4}, headers=headers)
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert service.post("/things", json={"zone": 4}, headers={"Authorization": "Bearer the-token"}).json() == 4


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ('{"zone": ', 400),
        ('{"zone": ' + "9" * 5000 + "}", 400),  # more digits than Python reads
        ('{"zone": ' + "9" * 4000 + "}", 422),
        ('{"zone": 1e400}', 422),
        ('{"zone": NaN}', 422),
        (r'{"zone": "\ud800"}', 422),  # half a surrogate pair: no text that UTF-8 can carry
        (r'{"zone": 4, "\udfff": "\u0000"}', 422),
        ("[" * 100_000, 400),
        ('{"zone": {"a": [' + "1," * 5000 + "1]}}", 422),
    ],
)
def test_a_strange_body_is_the_callers_fault_and_is_answered_as_such(service, body, status):
    headers = {"Authorization": "Bearer the-token", "Content-Type": "application/json"}
    answer = service.post("/things", content=body, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (status, MEDIA_TYPE)
    assert len(answer.content) < 10_000
