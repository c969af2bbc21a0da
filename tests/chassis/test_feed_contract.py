"""The feed's promise, on SQLite and on Postgres: a polling reader misses none of what concurrent writers append."""

from __future__ import annotations

import json
import multiprocessing
import random
import time
from collections.abc import Callable, Sequence

import pytest

from chassis.drivers import DriverDatabase
from chassis.feed_store import Draft, FeedStore
from chassis.feed_writer import FeedWriter
from tests.chassis.conftest import by_sqlalchemy
from tests.chassis.test_feeds import NOON, rating

WRITERS, EACH = 9, 1_200
Append = Callable[[Sequence[Draft], float], None]


def open_store(url: str, alone: bool = False) -> FeedStore:
    return FeedStore(DriverDatabase(url) if alone else by_sqlalchemy(url), "ratings")


def write(url: str, writer: int) -> None:
    """Append one to ten events at a time. Writers take turns: by SQLAlchemy, by the driver alone, each in transactions
    that are held open for a random moment before they commit; and as serving does."""
    append = (in_transactions(open_store(url)), in_transactions(open_store(url, alone=True)), at_once(url))[writer % 3]
    luck, written = random.Random(writer), 0
    while written < EACH:
        count = min(luck.randint(1, 10), EACH - written)
        append([rating(f"{writer}-{written + step}") for step in range(count)], luck.choice((0, 0, 0.001, 0.003)))
        written += count


def in_transactions(store: FeedStore) -> Append:
    def append(ratings: Sequence[Draft], pause_s: float) -> None:
        with store.database.begin() as tx:
            store.append(tx, ratings)
            time.sleep(pause_s)

    return append


def at_once(url: str) -> Append:
    writer = FeedWriter(DriverDatabase(url), "ratings", patience_s=10)

    def append(ratings: Sequence[Draft], pause_s: float) -> None:
        writer.append("rating.given", NOON, [(it.subject, it.data.model_dump_json()) for it in ratings])
        time.sleep(pause_s)

    return append


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_polling_reader_misses_none_of_10_800_events(url: str):
    store = open_store(url)
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write, args=(url, number)) for number in range(WRITERS)]
    for process in writers:
        process.start()
    seen: list[str] = []
    cursor = 0
    deadline = time.monotonic() + 150
    while len(seen) < WRITERS * EACH and time.monotonic() < deadline:
        events = [json.loads(event) for event in store.read(cursor, limit=200)]
        ids = [int(event["id"]) for event in events]
        assert ids == list(range(cursor + 1, cursor + 1 + len(ids)))  # dense: an id never shows before a lower one
        seen += [event["subject"] for event in events]
        cursor = ids[-1] if ids else cursor
    for process in writers:
        process.join(timeout=10)

    assert [process.exitcode for process in writers] == [0] * WRITERS
    assert sorted(seen) == sorted(f"{writer}-{number}" for writer in range(WRITERS) for number in range(EACH))
    for writer in range(WRITERS):  # and each writer's own events keep the order it wrote them in
        assert [event for event in seen if event.startswith(f"{writer}-")] == [f"{writer}-{n}" for n in range(EACH)]
