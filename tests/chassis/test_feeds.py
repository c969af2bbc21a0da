"""The feed: order, atomicity, long polling, retention, durable cursors."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime

import httpx
import pytest
from prometheus_client import CollectorRegistry

from chassis.drivers import DriverDatabase
from chassis.feed_routes import feed_routes
from chassis.feed_store import MOST_IN_ROW, CursorTooOld, Draft, FeedStore
from chassis.feed_writer import FeedUnwritable, FeedWriter
from chassis.followers import FeedAway, Follower
from chassis.service import make_app
from contracts.feeds import RatingGiven
from tests.chassis.conftest import BOTH_WAYS
from tests.servers import running

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


def rating(trip: str) -> Draft:
    return Draft("rating.given", NOON, trip, RatingGiven(trip_id=trip, stars=5, late=False))


@pytest.fixture(params=BOTH_WAYS)
def store(request, tmp_path):
    return FeedStore(request.param(f"sqlite:///{tmp_path}/owner.db"), "ratings")


@pytest.fixture
def writer_to(tmp_path):
    """Makes writers with so much patience to what `store` has made."""
    return lambda patience_s: FeedWriter(DriverDatabase(f"sqlite:///{tmp_path}/owner.db"), "ratings", patience_s)


def test_ids_are_dense_and_in_order(store):
    with store.database.begin() as tx:
        assert store.append(tx, [rating("a"), rating("b")]) == [1, 2]
    with store.database.begin() as tx:
        assert store.append(tx, [rating("c")]) == [3]

    assert [json.loads(event)["subject"] for event in store.read(after=1, limit=10)] == ["b", "c"]


def subjects(store: FeedStore, after: int, limit: int) -> list[str]:
    """Whom the events after an id are about; asserts that their ids follow it."""
    events = [json.loads(event) for event in store.read(after, limit)]
    assert [int(event["id"]) for event in events] == list(range(after + 1, after + 1 + len(events)))
    return [event["subject"] for event in events]


@pytest.mark.parametrize("sizes", [(1, 1, 1), (3, 1, 2), (MOST_IN_ROW, 2), (2 * MOST_IN_ROW + 7, 1, MOST_IN_ROW + 1)])
def test_however_events_came_together_they_are_read_from_any_id_on(store, writer_to, sizes):
    trips = iter(range(10_000))
    for number, size in enumerate(sizes):
        names = [str(next(trips)) for _ in range(size)]
        if number % 2:
            told(writer_to(1), *names)
        else:
            with store.database.begin() as tx:
                store.append(tx, [rating(name) for name in names])
    whole = [str(number) for number in range(sum(sizes))]
    for after in {0, 1, 2, 3, MOST_IN_ROW - 1, MOST_IN_ROW, MOST_IN_ROW + 1, len(whole) - 1, len(whole)}:
        for limit in (1, 2, MOST_IN_ROW, 1000):
            assert subjects(store, after, limit) == whole[after : after + limit]


def test_what_is_kept_may_begin_in_the_midst_of_events_that_came_together(store, writer_to):
    told(writer_to(1), *"abcde")
    told(writer_to(1), "f")
    store.trim(before=4)
    assert subjects(store, 3, 10) == ["d", "e", "f"]
    with pytest.raises(CursorTooOld):
        store.read(after=2, limit=10)
    store.trim(before=6)
    assert subjects(store, 5, 10) == ["f"]
    with store.database.begin() as tx:
        assert tx.exec_driver_sql("SELECT id FROM feed_ratings").fetchall() == [(6,)]


def test_a_rolled_back_append_leaves_neither_event_nor_gap(store):
    with pytest.raises(RuntimeError), store.database.begin() as tx:
        store.append(tx, [rating("lost")])
        raise RuntimeError
    with store.database.begin() as tx:
        assert store.append(tx, [rating("kept")]) == [1]


def told(writer: FeedWriter, *trips: str) -> None:
    writer.append("rating.given", NOON, [(trip, rating(trip).data.model_dump_json()) for trip in trips])


@contextmanager
def locked(store):
    """Somebody else writes."""
    with store.database.begin() as tx:
        store.lock(tx)
        yield


def test_a_writer_waits_for_the_lock_of_others_as_long_as_it_is_told_and_then_says_so(store, writer_to):
    writer, began = writer_to(0.2), time.monotonic()
    with locked(store):
        assert not writer.seize(0.01)
        assert time.monotonic() - began < 0.2
        with pytest.raises(FeedUnwritable, match="database is locked"):
            told(writer, "a")
        assert time.monotonic() - began >= 0.2
    assert store.last_id() == 0
    told(writer, "b", "c")
    assert [json.loads(event)["subject"] for event in store.read(after=0, limit=10)] == ["b", "c"]


def test_a_lock_taken_before_an_append_lasts_until_it(store, writer_to):
    writer, other = writer_to(5), writer_to(0.01)
    told(other, "a")
    assert writer.seize(0.01)
    with pytest.raises(FeedUnwritable):
        told(other, "b")
    told(writer, "c")
    told(other, "d")
    assert [json.loads(event)["subject"] for event in store.read(after=0, limit=10)] == ["a", "c", "d"]


def test_an_append_that_cannot_even_be_written_down_gives_its_lock_back(store, writer_to):
    writer, other = writer_to(5), writer_to(0.01)
    assert writer.seize(0.01)
    with pytest.raises(TypeError):
        writer.append("rating.given", NOON, [(object(), "{}")])
    told(other, "a")
    assert store.last_id() == 1


def test_a_cursor_behind_retention_is_told_so(store):
    with store.database.begin() as tx:
        store.append(tx, [rating(str(number)) for number in range(10)])
    store.trim(before=6)

    with pytest.raises(CursorTooOld, match="keeps events from id 6"):
        store.read(after=2, limit=10)
    assert len(store.read(after=5, limit=10)) == 5


def test_over_http_with_long_polling_and_problems(store):
    app = make_app("ratings", CollectorRegistry(), ready=lambda: None)
    app.include_router(feed_routes(store))
    with running(app) as url:
        assert httpx.get(f"{url}/feeds/ratings").json() == []

        def publish() -> None:
            with store.database.begin() as tx:
                store.append(tx, [rating("later")])

        timer = threading.Timer(0.3, publish)
        timer.start()
        woken = httpx.get(f"{url}/feeds/ratings", params={"timeout": 10})
        assert [event["subject"] for event in woken.json()] == ["later"]
        assert woken.elapsed.total_seconds() < 8

        store.trim(before=2)
        gone = httpx.get(f"{url}/feeds/ratings")
        assert gone.status_code == 410
        assert gone.headers["content-type"] == "application/problem+json"
        bad = httpx.get(f"{url}/feeds/ratings", params={"limit": 0})
        assert bad.status_code == 422
        assert bad.json()["errors"][0]["field"] == "query.limit"


@pytest.mark.parametrize("opened", BOTH_WAYS)
def test_a_follower_goes_on_where_it_committed(store, opened, tmp_path):
    app = make_app("ratings", CollectorRegistry(), ready=lambda: None)
    app.include_router(feed_routes(store))
    database = opened(f"sqlite:///{tmp_path}/consumer.db")
    with store.database.begin() as tx:
        store.append(tx, [rating(str(number)) for number in range(7)])
    seen: list[str] = []

    def crash(_tx, _events):
        raise RuntimeError("crashed in mid-batch")

    with running(app) as url:
        with pytest.raises(RuntimeError):
            Follower(url, "ratings", database, crash).step()
        for _ in range(2):  # the second one starts as a fresh process would
            follower = Follower(
                url, "ratings", database, lambda _tx, events: seen.extend(event.subject for event in events), 3
            )
            follower.drain()

    assert seen == [str(number) for number in range(7)]


def answer(body: bytes, status: str = "200 OK", length: int | None = None) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {length or len(body)}\r\n\r\n".encode() + body


ONE = b'[{"specversion": "1.0", "id": "1", "source": "product", "type": "rating.given", "time": "2026-06-01T12:00:00Z",\
 "subject": "a", "data": {"trip_id": "a", "stars": 5, "late": false}}]'
AWAY = {
    "refuses": (answer(b"{}", "503 Service Unavailable"), "503"),
    "keeps no such events": (answer(b"{}", "410 Gone"), "410"),
    "hangs up": (b"", "Remote"),
    "is cut off in its head": (b"HTTP/1.1 200", "JSON"),
    "is cut off in its body": (answer(ONE, length=len(ONE) + 1), "Incomplete"),
    "speaks no HTTP": (b"220 ready\r\n\r\n", "BadStatusLine"),
    "answers no JSON": (answer(b"<html>"), "JSON"),
    "answers no events": (answer(b'{"status": "live"}'), "list"),
    "says nothing": (None, "timed out"),
}


@contextmanager
def answering(*answers: bytes | None):
    """Something at a port that answers one connection after the other, with None not at all."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer_all() -> None:
            for text in answers:
                connection, _ = listener.accept()
                with connection:
                    asked = connection.recv(65536)
                    assert asked.startswith(b"GET /feeds/ratings?lastEventId=0&limit=")
                    if text is None:
                        connection.recv(1)  # until the other one has had enough
                    else:
                        connection.sendall(text)

        thread = threading.Thread(target=answer_all, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture
def follower_of(tmp_path):
    """Makes a follower of ratings at a URL, which tells a list whose trips they were."""
    database = DriverDatabase(f"sqlite:///{tmp_path}/consumer.db")

    def make(url: str, told: list[str]) -> Follower:
        return Follower(url, "ratings", database, lambda _tx, events: told.extend(it.subject for it in events))

    return make


@pytest.mark.parametrize("fault", AWAY)
def test_a_feed_that_is_away_is_told_as_such(fault, follower_of):
    text, words = AWAY[fault]
    with answering(text) as url:
        follower = follower_of(url, [])
        follower.timeout_s = 0.2 if text is None else 10
        with pytest.raises(FeedAway, match=words):
            follower.step()


def test_a_feed_that_nobody_listens_for_is_away(follower_of):
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    with pytest.raises(FeedAway, match="refused"):
        follower_of(url, []).step()


def test_following_goes_on_when_a_feed_that_was_away_is_back(follower_of, caplog):
    stop, told = threading.Event(), []
    with answering(b"", answer(ONE[:40]), answer(ONE)) as url:
        follower = follower_of(url, told)
        commit, follower.commit = follower.commit, lambda events: (commit(events), stop.set())
        follower.follow(stop, wait_s=0)

    assert told == ["a"]
    assert [it.getMessage().partition(" (")[0] for it in caplog.records] == ["feed ratings is away"] * 2
