"""A whole Tandem for system tests: the real launcher, real processes, ports and a `var` of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import httpx

from chassis.clock import Clock
from chassis.tokens import Role, read_token
from contracts.feeds import FEED_OWNERS, Event, FeedName
from tests.servers import free_port

SERVICES = ("product", "serving", "monitoring", "city", "data", "model")
SERVED_BY: dict[FeedName, str] = {**FEED_OWNERS, "conditions": "city"}  # data's, from a process of its own
LONGEST_S = 900  # after its pages are open a Tandem ends by itself, if whoever tests it was killed
T = TypeVar("T")


def patiently(what: str, look: Callable[[], T | None], within_s: float, every_s: float = 0.2) -> T:
    """Look until there is something; fails with `what` was awaited when there is nothing in time."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        found = look()
        if found is not None and found is not False:
            return found
        time.sleep(every_s)
    raise AssertionError(f"waited {within_s:g} s in vain for {what}")


@dataclass
class Reader:
    """Follows one feed from the outside and keeps every event it saw."""

    url: str
    events: list[Event] = field(default_factory=list)
    last_id: int = 0

    def fetch(self) -> list[Event]:
        """Everything new; also kept in `events`."""
        fresh: list[Event] = []
        while True:
            answer = httpx.get(self.url, params={"lastEventId": self.last_id, "limit": 2000}, timeout=20)
            answer.raise_for_status()
            batch = [Event.model_validate(item) for item in answer.json()]
            if not batch:
                self.events += fresh
                return fresh
            fresh += batch
            self.last_id = int(batch[-1].id)

    def to_the_end(self) -> Reader:
        """Skip what is there already."""
        self.fetch()
        self.events.clear()
        return self


@dataclass
class Tandem:
    """A running Tandem, as its users and operators see it."""

    var: Path
    environment: dict[str, str]
    launcher: subprocess.Popen[bytes] | None = None

    def url(self, service: str) -> str:
        """Base URL of a service."""
        return f"http://127.0.0.1:{self.environment[f'TANDEM_{service.upper()}_PORT']}"

    def reader(self, feed: FeedName) -> Reader:
        """A reader of a feed, from its beginning."""
        return Reader(f"{self.url(SERVED_BY[feed])}/feeds/{feed}")

    def headers(self, role: Role) -> dict[str, str]:
        """Authorization of a role."""
        return {"Authorization": f"Bearer {read_token(self.var / 'tokens', role)}"}

    @property
    def clock(self) -> Clock:
        """The city's clock."""
        return Clock.load(self.var / "clock.json")

    def live(self, service: str) -> bool:
        """Whether a service answers at all."""
        return self._healthy(service, "live")

    def ready(self, service: str) -> bool:
        """Whether a service says that it is ready."""
        return self._healthy(service, "ready")

    def _healthy(self, service: str, kind: str) -> bool:
        try:
            return httpx.get(f"{self.url(service)}/health/{kind}", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def start_incident(self, name: str) -> None:
        """Start an incident in the city now."""
        answer = httpx.post(f"{self.url('city')}/v1/incidents", json={"name": name}, headers=self.headers("control"))
        assert answer.status_code < 300, answer.text

    def start(self, *arguments: str) -> None:
        """Start the launcher and return at once."""
        self.var.mkdir(parents=True, exist_ok=True)
        with (self.var / "launcher.log").open("ab") as log:
            self.launcher = subprocess.Popen(
                [sys.executable, "-m", "deploy.run", *arguments],
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def stop(self) -> int:
        """End as Ctrl-C does; answers the launcher's exit status."""
        assert self.launcher is not None
        if self.launcher.poll() is None:
            self.launcher.send_signal(signal.SIGINT)
        try:
            return self.launcher.wait(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(self.launcher.pid, signal.SIGKILL)
            raise

    def what_it_said(self) -> str:
        """The end of the launcher's output, for messages of failed tests."""
        return (self.var / "launcher.log").read_text()[-3000:]


@contextmanager
def tandem(var: Path, **settings: str) -> Iterator[Tandem]:
    """Run Tandem in `var` on free ports with settings such as `TANDEM_SPEED`, and end it."""
    ports = {f"TANDEM_{service.upper()}_PORT": str(free_port()) for service in SERVICES}
    system = Tandem(var, {**os.environ, **ports, "TANDEM_VAR": str(var), **settings})
    system.start("--for", str(LONGEST_S))
    try:
        yield system
    finally:
        system.stop()
