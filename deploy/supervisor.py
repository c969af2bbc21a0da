"""Tandem's processes under supervisord, as a child of the launcher."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Self
from xmlrpc.client import Fault, ServerProxy

from rich.console import Console
from supervisor.xmlrpc import Faults, SupervisorTransport  # type: ignore[import-untyped]

from contracts.problems import TandemError
from deploy.settings import DeploySettings

CONFIG = Path(__file__).with_name("supervisord.conf")
LONGEST_SOCKET_PATH = 95  # bytes: supervisord binds `<socket>.<its process id>` first, and macOS takes 103
CLOSED_S = 10  # that supervisord may take to end once its socket is closed


class NotRunning(TandemError):
    """No Tandem runs here, or it ended."""


class Stopped(TandemError):
    """Tandem was told to end, and ends or has ended."""

    def __init__(self) -> None:
        super().__init__("Tandem was stopped; `make run` goes on from here")


class AlreadyRunning(TandemError):
    """Another Tandem has this `var`."""


class Supervisor:
    """A running supervisord, reached over its socket in `var`."""

    def __init__(self, settings: DeploySettings) -> None:
        self.var = settings.var.absolute()
        self.socket = self.var / "supervisor.sock"
        if len(os.fsencode(self.socket)) > LONGEST_SOCKET_PATH:
            raise TandemError(f"{self.socket} is too long a path for a socket: set TANDEM_VAR to a shorter one")
        self.rpc: Any = ServerProxy("http://tandem", transport=SupervisorTransport(None, None, f"unix://{self.socket}"))

    def processes(self) -> dict[str, tuple[str, int]]:
        """State and process id of each process, by name. Raises `NotRunning` or `Stopped`."""
        return {item["name"]: (item["statename"], item["pid"]) for item in self._ask("getAllProcessInfo")}

    def refuse_a_second(self) -> None:
        """Raise `AlreadyRunning` where a Tandem runs in this `var`."""
        try:
            self.processes()
        except NotRunning:
            return
        except Stopped as error:
            raise AlreadyRunning(f"a Tandem still ends in {self.var}: `make run` again in a moment") from error
        raise AlreadyRunning(
            f"a Tandem runs in {self.var} already: `make stop` ends it; set TANDEM_VAR to run a second one"
        )

    def kill(self, name: str) -> int:
        """Kill one process the hard way, answering the process id it had. Raises `NotRunning` or `Stopped`."""
        found = self.processes()
        state, pid = found.get(name, ("UNKNOWN", 0))
        if not pid:
            raise NotRunning(f"no process {name!r} runs ({state.lower()}): choose one of {', '.join(sorted(found))}")
        os.kill(pid, signal.SIGKILL)
        return pid

    def shut_down(self) -> None:
        """Ask supervisord to end all processes and itself. Raises `NotRunning` or `Stopped`."""
        self._ask("shutdown")

    def _ask(self, what: str, *details: Any) -> Any:
        """What supervisord answers to one of its calls. Raises `NotRunning` or `Stopped`."""
        try:
            return getattr(self.rpc.supervisor, what)(*details)
        except OSError as error:
            self.rpc("close")()  # a connection that failed cannot be used again
            raise NotRunning(f"no Tandem runs in {self.var}: start one with `make run`") from error
        except Fault as fault:
            if fault.faultCode == Faults.SHUTDOWN_STATE:
                raise Stopped from fault
            raise


class Tandem(Supervisor):
    """All processes from entering this context to leaving it."""

    def __enter__(self) -> Self:
        (self.var / "logs").mkdir(parents=True, exist_ok=True)
        environment = {
            "OMP_NUM_THREADS": "1",  # many small processes share few cores; the model's worker sets its own
            "PYTHONUNBUFFERED": "1",
            **os.environ,
            "TANDEM_VAR": str(self.var),
            "TANDEM_PYTHON": sys.executable,
        }
        # A session of its own: Ctrl-C in the terminal reaches the launcher alone, which then ends the rest in order.
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(CONFIG)]
        self.socket.unlink(missing_ok=True)  # one that a killed supervisord left: nobody answers there
        self.given_up: set[str] = set()
        self.child = subprocess.Popen(command, env=environment, start_new_session=True)
        return self

    def __exit__(self, *_error: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # an impatient second Ctrl-C must not leave processes behind
        self.child.terminate()
        self.child.wait()  # supervisord itself kills what does not end within its stopwaitsecs

    def check(self, console: Console) -> None:
        """Say once of each process that supervisord gave up on. Raises `Stopped` when that was told to end,
        `NotRunning` when it ended otherwise."""
        for name, (state, _) in self._seen().items():
            if state == "FATAL" and name not in self.given_up:
                self.given_up.add(name)
                console.print(f"[red]✗[/] {name} does not start, not even after several tries: see {self.log(name)}")

    def _seen(self) -> dict[str, tuple[str, int]]:
        try:
            if self.child.poll() is None:
                return self.processes() if self.socket.exists() else {}  # without a socket it has only just started
        except NotRunning:
            self._wait_for_its_end()
        if self.child.returncode == 0:
            raise Stopped
        raise NotRunning(f"supervisord ended (exit {self.child.returncode}): see {self.var}/logs/supervisord.log")

    def _wait_for_its_end(self) -> None:
        """Wait for the end of a supervisord that closed its socket."""
        try:
            self.child.wait(CLOSED_S)
        except subprocess.TimeoutExpired as error:
            raise NotRunning(
                f"supervisord (process {self.child.pid}) has not answered at {self.socket} for {CLOSED_S} s: "
                f"see {self.var}/logs/supervisord.log"
            ) from error

    def start_rest(self) -> None:
        """Start the processes that wait for the pages to be open. Raises `NotRunning` or `Stopped`."""
        for item in self._ask("getAllProcessInfo"):
            if item["statename"] == "STOPPED":
                self._ask("startProcess", f"{item['group']}:{item['name']}", False)

    def log(self, name: str) -> Path:
        """Where a process writes."""
        return self.var / "logs" / f"{name}.log"
