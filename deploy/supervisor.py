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
from supervisor.xmlrpc import SupervisorTransport  # type: ignore[import-untyped]

from contracts.problems import TandemError
from deploy.settings import DeploySettings

CONFIG = Path(__file__).with_name("supervisord.conf")
LONGEST_SOCKET_PATH = 100  # the operating system's limit is 104 to 108 bytes


class NotRunning(TandemError):
    """No Tandem runs here, or it ended."""


class Supervisor:
    """A running supervisord, reached over its socket in `var`."""

    def __init__(self, settings: DeploySettings) -> None:
        self.var = settings.var.absolute()
        self.socket = self.var / "supervisor.sock"
        if len(str(self.socket)) > LONGEST_SOCKET_PATH:
            raise TandemError(f"{self.socket} is too long a path for a socket: set TANDEM_VAR to a shorter one")
        self.rpc: Any = ServerProxy("http://tandem", transport=SupervisorTransport(None, None, f"unix://{self.socket}"))

    def processes(self) -> dict[str, tuple[str, int]]:
        """State and process id of each process, by name. Raises `NotRunning`."""
        try:
            return {item["name"]: (item["statename"], item["pid"]) for item in self.rpc.supervisor.getAllProcessInfo()}
        except (OSError, Fault) as error:
            raise NotRunning(f"no Tandem runs in {self.var}: start one with `make run`") from error

    def kill(self, name: str) -> int:
        """Kill one process the hard way, answering the process id it had. Raises `NotRunning`."""
        found = self.processes()
        state, pid = found.get(name, ("UNKNOWN", 0))
        if not pid:
            raise NotRunning(f"no process {name!r} runs ({state.lower()}): choose one of {', '.join(sorted(found))}")
        os.kill(pid, signal.SIGKILL)
        return pid

    def shut_down(self) -> None:
        """Ask supervisord to end all processes and itself. Raises `NotRunning`."""
        self.processes()
        self.rpc.supervisor.shutdown()


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
        self.given_up: set[str] = set()
        self.child = subprocess.Popen(command, env=environment, start_new_session=True)
        return self

    def __exit__(self, *_error: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # an impatient second Ctrl-C must not leave processes behind
        self.child.terminate()
        self.child.wait()  # supervisord itself kills what does not end within its stopwaitsecs

    def check(self, console: Console) -> None:
        """Raise `NotRunning` when supervisord ended; say once of each process that it gave up on."""
        if self.child.poll() is not None:
            raise NotRunning(f"supervisord ended (exit {self.child.returncode}): see {self.var}/logs/supervisord.log")
        if not self.socket.exists():
            return  # it has only just started
        for name, (state, _) in self.processes().items():
            if state == "FATAL" and name not in self.given_up:
                self.given_up.add(name)
                console.print(f"[red]✗[/] {name} does not start, not even after several tries: see {self.log(name)}")

    def start_rest(self) -> None:
        """Start the processes that wait for the pages to be open."""
        for item in self.rpc.supervisor.getAllProcessInfo():
            if item["statename"] == "STOPPED":
                self.rpc.supervisor.startProcess(f"{item['group']}:{item['name']}", False)

    def log(self, name: str) -> Path:
        """Where a process writes."""
        return self.var / "logs" / f"{name}.log"
