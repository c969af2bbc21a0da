"""Are the ports free? Asked before anything starts, so that the answer names the port and what to set.

`python -m deploy.ports 5000` asks for `make mlflow`, whose server would end in silence.
"""

from __future__ import annotations

import socket
import sys

from pydantic import TypeAdapter, ValidationError

from chassis.addresses import Port
from contracts.problems import TandemError, plain_words
from deploy.settings import SERVICES, DeploySettings


class TakenPort(TandemError):
    """Another program listens where one of ours should."""


class NoPort(TandemError):
    """What was given is no number of a port."""


def refuse_taken_ports(settings: DeploySettings) -> None:
    """Raise `TakenPort` for the first service whose port is not free."""
    for service in SERVICES:
        setting = f"TANDEM_{service.upper()}_PORT"
        instead = f"end what listens there (if it is a Tandem, `make stop`) or set {setting} to a free port"
        _refuse_taken(settings.bind, settings.port(service), service, instead)


def refuse_taken_port_for_mlflow(given: str) -> None:
    """Raise `TakenPort` or `NoPort` where MLflow's pages cannot have the port."""
    try:
        port = TypeAdapter(Port).validate_python(given)
    except ValidationError as error:
        raise NoPort(f"{given!r} is no port: make mlflow PORT=5001") from error
    _refuse_taken("127.0.0.1", port, "MLflow", f"make mlflow PORT={port + 1}")


def _refuse_taken(bind: str, port: int, meant_for: str, instead: str) -> None:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: a closed socket lingers
        try:
            sock.bind((bind, port))
        except OSError as error:
            raise TakenPort(f"port {port}, meant for {meant_for}, is taken ({error.strerror}): {instead}") from error


if __name__ == "__main__":
    with plain_words():
        refuse_taken_port_for_mlflow(sys.argv[1])
