"""Checks of the whole system's edges: a real product process, with a city, a serving and a browser beside it."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from html import escape
from math import nan
from pathlib import Path
from statistics import median
from urllib.parse import parse_qsl

import httpx
from fastapi import Request, Response
from playwright.sync_api import sync_playwright

from chassis.clock import Clock
from chassis.tokens import make_tokens, read_token
from contracts import requirements
from contracts.conditions import Conditions
from contracts.measurements import Measurement
from tests.browser.booking import choose_places, faults, press_next, steps_to_book
from tests.browser.conftest import CHROMIUM, FLAGS
from tests.product.conftest import START, WISH
from tests.product.neighbours import FakeCity, a_map
from tests.saboteurs.faults import Saboteur, measured, spoiler
from tests.saboteurs.processes import service
from tests.saboteurs.proxy import editing
from tests.servers import free_port, running
from tests.system.leaks import places_found
from tests.system.strangers import answering_strangers, published

KINDS = ("system test", "browser test")
RECORD = requirements.load()
COMMENT = "ring at Miller's, 555-0199"
QUOTES, WAITS = 20, 4  # four waits in a row leave the product's circuit breaker closed


@dataclass
class Shop:
    """A product to be visited. Every fault sits in what it is told, in its database, its process, or before it."""

    city_known: bool = True
    on_database: Callable[[Path], None] = lambda _file: None
    while_waiting: Callable[[subprocess.Popen[bytes]], None] = lambda _process: None
    seen_through: dict[str, object] = field(default_factory=dict)  # arguments of `editing`


def city_unknown(shop: Shop) -> None:
    """Serving is down, and the city's map never arrived either."""
    shop.city_known = False


def stunned_product(shop: Shop) -> None:
    """The product's process stands still for a third of a second each time it waits for an estimate."""

    def stun(process: subprocess.Popen[bytes]) -> None:
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.35)
        process.send_signal(signal.SIGCONT)

    shop.while_waiting = stun


def page_in_between(shop: Shop) -> None:
    """A proxy asks "are you sure?" before it passes a form on."""

    def ask_first(request: Request, body: bytes) -> Response | None:
        if request.method != "POST" or request.url.path.startswith("/api") or request.query_params.get("sure"):
            return None
        kept = "".join(
            f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'
            for name, value in parse_qsl(body.decode())
        )
        form = f'<form method="post" action="{request.url.path}?sure=1">{kept}<button>Yes, I am sure</button></form>'
        return Response(f"<h2>Are you sure?</h2>{form}", media_type="text/html")  # fits into a page, as an offer does

    shop.seen_through = {"instead": ask_first}


def labels_lost(shop: Shop) -> None:
    """A template loses what names its fields."""
    shop.seen_through = {"edit": lambda page: page.replace("<label", "<span").replace("</label", "</span")}


def talkative_feed(shop: Shop) -> None:
    """The ratings feed carries what the customer wrote."""

    def talk(database: Path) -> None:
        with sqlite3.connect(database) as db:
            db.execute(
                'UPDATE feed_ratings SET event = replace(event, \'"stars"\', \'"comment":"\' || ? || \'","stars"\')',
                [COMMENT],
            )

    shop.on_database = talk


def generous_proxy(shop: Shop) -> None:
    """A proxy in front of the product adds the courier's token to every request."""
    shop.seen_through = {"request_headers": {"authorization": "Bearer {courier}"}}


SABOTEURS: dict[str, Saboteur[Shop]] = {
    "city-unknown": Saboteur("quotes-without-serving", city_unknown),
    "stunned-product": Saboteur("estimate-wait", stunned_product),
    "page-in-between": Saboteur("booking-steps", page_in_between),
    "labels-lost": Saboteur("accessibility-faults", labels_lost),
    "talkative-feed": Saboteur("personal-data-outside", talkative_feed),
    "generous-proxy": Saboteur("unguarded-routes", generous_proxy),
}


def profile(saboteur: str | None) -> list[Measurement]:
    """Visit a product while serving is dead, another while serving hangs and then is gone: as someone who only wants a
    price, as a stranger, as a customer who writes to us, and as one at a keyboard."""
    shop = Shop()
    spoiler(SABOTEURS, saboteur)(shop)
    system: list[tuple[str, float, bool, str]] = []
    browser: list[tuple[str, float, bool, str]] = []

    def note(lines: list[tuple[str, float, bool, str]], requirement: str, value: float, words: str = "") -> None:
        lines.append((requirement, value, RECORD[requirement].passes(value), words[:100]))

    with tempfile.TemporaryDirectory() as folder:
        with _product(Path(folder, "dead"), f"http://127.0.0.1:{free_port()}", shop.city_known) as (url, _):
            answers = [httpx.post(f"{url}/api/quotes", json=WISH, timeout=20) for _ in range(QUOTES)]
            note(system, "quotes-without-serving", sum(got.status_code == 200 for got in answers) / QUOTES)
        with ExitStack() as stack:
            var = Path(folder, "alive")
            with Hanging() as hanging:
                url, process = stack.enter_context(_product(var, hanging.url))
                for _ in range(WAITS):
                    hanging.when_asked = partial(shop.while_waiting, process)
                    httpx.post(f"{url}/api/quotes", json=WISH, timeout=20)
            note(system, "estimate-wait", median(hanging.waits_ms), f"the median of {len(hanging.waits_ms)} waits")
            headers = {
                name: value.format(courier=read_token(var / "tokens", "courier"))
                for name, value in shop.seen_through.get("request_headers", {}).items()
            }
            seen = stack.enter_context(running(editing(url, **shop.seen_through | {"request_headers": headers})))
            strangers, guarded = answering_strangers(seen, published("product"))
            answering = len(strangers) if guarded else nan  # a service that guards nothing was not looked at
            note(system, "unguarded-routes", answering, f"of {guarded} guarded; {', '.join(strangers)}")
            _rate_a_trip(url, var)
            shop.on_database(var / "product.db")
            found = places_found(COMMENT, [f"{url}/feeds/{feed}" for feed in ("trips", "ratings")], var)
            note(system, "personal-data-outside", len(found), ", ".join(found))
            steps, broken = _at_a_keyboard(seen)
            note(browser, "booking-steps", steps)
            note(browser, "accessibility-faults", len(broken), "; ".join(broken))
    return measured(RECORD, "system test", system) + measured(RECORD, "browser test", browser)


def _at_a_keyboard(url: str) -> tuple[int, list[str]]:
    """Steps to a booking; what the checker finds on the booked trip's page, the first one, and one with an offer."""
    with sync_playwright() as playwright:
        window = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS).new_page(base_url=url)
        steps = steps_to_book(window)
        found = faults(window)
        window.goto("/")
        found += faults(window)
        choose_places(window)
        press_next(window)
        return steps, found + faults(window)


@contextmanager
def _product(var: Path, serving_url: str, city_known: bool = True) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A product process between a city and a serving; answers its URL and process once it is up."""
    var.mkdir()
    make_tokens(var / "tokens")
    clock = Clock(time_zone="Europe/Berlin", city_start=START, wall_start=time.time(), speed=600)
    clock.save(var / "clock.json")
    city = FakeCity(var)
    if city_known:
        city.publish(a_map(), Conditions(at=clock.now() + timedelta(hours=2), rain_mm_h=0.4, temperature_c=17))
    health = "ready" if city_known else "live"
    with (
        running(city.app) as city_url,
        service("product", var, health, city_url=city_url, serving_url=serving_url) as started,
    ):
        yield started


def _rate_a_trip(url: str, var: Path) -> None:
    """Book a trip, bring it, and say how it was."""
    trip = httpx.post(f"{url}/api/quotes", json=WISH, timeout=20).json()["trip_id"]
    clock, courier = (
        Clock.load(var / "clock.json"),
        {"Authorization": f"Bearer {read_token(var / 'tokens', 'courier')}"},
    )
    httpx.post(f"{url}/api/trips/{trip}", timeout=20).raise_for_status()
    for event in ("picked_up", "delivered"):
        time.sleep(0.02)  # some city seconds
        body = {"event": event, "at": clock.now().isoformat()}
        httpx.post(f"{url}/api/courier/trips/{trip}/reports", json=body, headers=courier, timeout=20).raise_for_status()
    rating = {"stars": 4, "comment": COMMENT}
    httpx.post(f"{url}/api/trips/{trip}/rating", json=rating, timeout=20).raise_for_status()


class Hanging:
    """A serving that reads a question and never answers; it times how long it is waited for."""

    def __init__(self) -> None:
        self.waits_ms: list[float] = []
        self.when_asked: Callable[[], None] = lambda: None
        self.loop = asyncio.new_event_loop()

    async def _hang(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        asked = time.monotonic()
        threading.Thread(target=self.when_asked).start()
        while await reader.read(65536):
            pass
        self.waits_ms.append(1000 * (time.monotonic() - asked))
        writer.close()

    def __enter__(self) -> Hanging:
        self.server = self.loop.run_until_complete(asyncio.start_server(self._hang, "127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self.server.close)  # from here on nobody listens
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(timeout=5)
