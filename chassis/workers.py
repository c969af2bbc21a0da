"""Several worker processes on one socket: uvicorn's supervisor starts them and replaces what dies or hangs."""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from prometheus_client.multiprocess import mark_process_dead
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from chassis.http import Limits
from chassis.life import settle
from chassis.service import listening_socket, server_config, several
from contracts.problems import TandemError

MADE = "made"  # a file beside this start's metrics: a worker's app could be made
TRY_AGAIN_S = 1.0


def share(
    factory: Callable[[], FastAPI],
    workers: int,
    bind: str,
    port: int,
    name: str,
    metrics: Path,
    limits: Limits | None = None,
) -> None:
    """Serve what `factory`, a function of a module, makes in each of `workers` processes, until told to end.

    What they count is added up in a folder of this start's own in `metrics`. Where no worker's app can be made all end.
    """
    limits = limits or Limits()
    sock = listening_socket(bind, port, name, limits)
    with metrics_folder(metrics, name) as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)  # read where a worker first imports prometheus_client
        config = server_config(partial(app_of_worker, factory, name), limits, factory=True, workers=workers)
        supervisor = Supervisor(config, several(sock), folder)
        supervisor.run()
    if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
        sys.exit(f"{name}: a worker could not start; see the log above")


class Supervisor(Multiprocess):
    """uvicorn's own; what ended workers showed of themselves, their live gauges, goes with them."""

    def __init__(self, config: Any, sockets: Any, metrics: Path) -> None:
        super().__init__(config, sockets)
        self.metrics = metrics
        self.seen: set[int | None] = set()

    def keep_subprocess_alive(self) -> None:
        """Called twice a second."""
        super().keep_subprocess_alive()
        there = {process.pid for process in self.processes}
        for pid in self.seen - there:
            mark_process_dead(pid, str(self.metrics))  # type: ignore[no-untyped-call]
        self.seen = there


def app_of_worker(factory: Callable[[], FastAPI], name: str) -> FastAPI:
    """A worker's app. One that can't be made ends the worker with the status by which uvicorn knows not to go on; once
    an app could be made, so that others may serve well, another worker is tried in a moment."""
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    made = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]) / MADE
    try:
        app = factory()
    except TandemError as error:
        logging.getLogger(name).error("%s", error)
    except Exception:
        logging.getLogger(name).exception("the app cannot be made")
    else:
        settle()
        made.touch()
        return app
    if not made.exists():
        sys.exit(STARTUP_FAILURE)
    time.sleep(TRY_AGAIN_S)
    sys.exit("a worker could not start; another one is tried")


def _end_with_the_parent() -> None:
    """Workers whose supervisor was killed would keep the port from the next one."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def metrics_folder(within: Path, name: str) -> Iterator[Path]:
    """A folder for the metrics of this start's workers, gone after it, as are those that killed starts left behind."""
    for left in within.glob(f"{name}-*"):
        if not _alive(int(left.name.rpartition("-")[2])):
            shutil.rmtree(left)
    folder = within / f"{name}-{os.getpid()}"
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _alive(pid: int) -> bool:
    """Whether another process of this number runs."""
    if pid == os.getpid():
        return False  # in a container each start has the same number
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
