"""Are the ports free? Asked before anything starts, so that the answer names the port and what to set."""

from __future__ import annotations

import socket

from contracts.problems import TandemError
from deploy.settings import SERVICES, DeploySettings


class TakenPort(TandemError):
    """Another program listens where a service should."""


def refuse_taken_ports(settings: DeploySettings) -> None:
    """Raise `TakenPort` for the first service whose port is not free."""
    for service in SERVICES:
        port = settings.port(service)
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the services do: a closed socket lingers
            try:
                sock.bind((settings.bind, port))
            except OSError as error:
                raise TakenPort(
                    f"port {port}, meant for {service}, is taken ({error.strerror}): end what listens there "
                    f"(if it is a Tandem, `make stop`) or set TANDEM_{service.upper()}_PORT to a free port"
                ) from error
