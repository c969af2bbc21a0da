"""A taken port is named before anything starts, with what to set."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from deploy.ports import TakenPort, refuse_taken_ports
from deploy.settings import SERVICES, DeploySettings
from tests.servers import free_port


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def make_mlflow(port: object) -> subprocess.CompletedProcess[str]:
    """`make mlflow PORT=...` as far as the address that it prints: what make would run after that ends at once."""
    command = ["make", "--no-print-directory", "-o", ".venv/.ready", "mlflow", f"PORT={port}", "MLFLOW=true"]
    python = f"BIN={sys.prefix}/bin"
    return subprocess.run([*command, python], check=False, capture_output=True, text=True)


def test_make_mlflow_names_a_taken_port_and_the_next_one(taken):
    ended = make_mlflow(taken)

    assert ended.returncode != 0
    assert f"port {taken}, meant for MLflow, is taken" in ended.stderr
    assert f"make mlflow PORT={taken + 1}" in ended.stderr
    assert "http://" not in ended.stdout


def test_make_mlflow_prints_where_it_will_answer():
    port = free_port()
    ended = make_mlflow(port)

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith(f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize("port", ["0", "99999", "abc"])
def test_make_mlflow_wants_a_port_that_can_be(port):
    ended = make_mlflow(port)

    assert ended.returncode != 0
    assert f"'{port}' is no port: make mlflow PORT=5001" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_services_taken_port_is_named_with_its_setting(taken):
    ports = {f"{service}_port": free_port() for service in SERVICES}

    with pytest.raises(TakenPort, match=f"port {taken}, meant for data, is taken .*set TANDEM_DATA_PORT"):
        refuse_taken_ports(DeploySettings(**ports | {"data_port": taken}))
