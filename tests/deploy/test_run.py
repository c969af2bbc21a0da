"""The launcher beside a real supervisord whose processes are small: what it makes of their end and of its own."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable

import pytest
from rich.console import Console

from chassis.clock import real_time
from contracts.problems import TandemError
from deploy import run as launcher
from deploy import supervisor
from deploy.checklist import Step
from deploy.run import NeverOpened, print_pages, run
from deploy.settings import DeploySettings
from deploy.supervisor import AlreadyRunning, NotRunning, Stopped, Supervisor, Tandem
from tests.servers import eventually

pytestmark = pytest.mark.timeout(40)
SLEEPS = "sleep 60"
ENDS_SLOWLY = "bash -c 'trap \"sleep 1; exit\" TERM; sleep 60 & wait'"
CONFIG = """
[supervisord]
nodaemon = true
silent = true
logfile = %(ENV_TANDEM_VAR)s/logs/supervisord.log
pidfile = %(ENV_TANDEM_VAR)s/supervisord.pid
[unix_http_server]
file = %(ENV_TANDEM_VAR)s/supervisor.sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[program:product]
startretries = 0
stopasgroup = true
command = """


@pytest.fixture(autouse=True)
def _handlers_as_they_were():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def settings(tmp_path) -> DeploySettings:
    return DeploySettings(var=tmp_path / "var")


@pytest.fixture
def product_runs(tmp_path, monkeypatch) -> Callable[[str], None]:
    """Makes a command all of Tandem."""

    def so(command: str) -> None:
        (tmp_path / "supervisord.conf").write_text(CONFIG + command)
        monkeypatch.setattr(supervisor, "CONFIG", tmp_path / "supervisord.conf")

    monkeypatch.setattr(launcher, "prepare", lambda _settings: real_time())
    return so


def pages_never_answer(monkeypatch, within_s: float) -> None:
    monkeypatch.setattr(launcher, "steps", lambda _tandem: [Step("pages answer", "product", within_s, lambda: None)])


def wait_for(settings: DeploySettings) -> Supervisor:
    """The supervisor of a Tandem that starts, once all of it runs."""
    running = Supervisor(settings)

    def runs() -> bool:
        try:
            return {state for state, _ in running.processes().values()} == {"RUNNING"}
        except NotRunning:
            return False

    eventually(runs, "product runs")
    return running


@pytest.mark.parametrize("seconds", [None, 5])
def test_where_product_never_starts_it_gives_up_and_names_the_log(seconds, settings, product_runs, monkeypatch):
    product_runs("false")
    pages_never_answer(monkeypatch, within_s=60)

    with pytest.raises(NeverOpened, match=r"product does not start.*logs/product\.log"):
        run(settings, seconds, Console(quiet=True))


def test_a_run_for_some_seconds_gives_up_once_the_pages_are_overdue(settings, product_runs, monkeypatch):
    product_runs(SLEEPS)
    pages_never_answer(monkeypatch, within_s=1)

    with pytest.raises(NeverOpened, match=r"did not open in time.*logs/product\.log"):
        run(settings, 5, Console(quiet=True))


@pytest.mark.parametrize("product", [SLEEPS, ENDS_SLOWLY])
def test_a_run_that_is_told_to_stop_ends_as_stopped(product, settings, product_runs, monkeypatch):
    product_runs(product)
    pages_never_answer(monkeypatch, within_s=0)
    stop = threading.Thread(target=lambda: wait_for(settings).shut_down())
    stop.start()

    with pytest.raises(Stopped, match="`make run` goes on from here"):
        run(settings, None, Console(quiet=True))
    stop.join()


def test_who_stops_it_has_not_failed_but_a_check_never_came(tmp_path, monkeypatch):
    def stopped(*_: object) -> bool:
        raise Stopped

    monkeypatch.setenv("TANDEM_VAR", str(tmp_path))
    monkeypatch.setattr(launcher, "refuse_taken_ports", lambda _settings: None)
    monkeypatch.setattr(launcher, "run", stopped)

    assert launcher.main([]) == 0
    assert launcher.main(["--for", "5"]) == 1


def test_a_supervisord_that_was_killed_is_a_fault(settings, product_runs):
    product_runs(SLEEPS)
    with Tandem(settings) as tandem:
        products = wait_for(settings).processes()
        tandem.child.kill()
        tandem.child.wait()
        with pytest.raises(NotRunning, match=r"supervisord ended \(exit -9\)"):
            tandem.check(Console(quiet=True))
    for _, pid in products.values():
        os.kill(pid, signal.SIGKILL)


def test_a_socket_that_a_killed_supervisord_left_is_not_taken_for_an_end(settings, product_runs):
    product_runs(SLEEPS)
    settings.var.mkdir()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(settings.var / "supervisor.sock"))

    with Tandem(settings) as tandem:
        tandem.check(Console(quiet=True))
        wait_for(settings)
        tandem.check(Console(quiet=True))


def test_a_second_one_in_the_same_var_is_refused_before_anything_is_written(
    settings, product_runs, monkeypatch, capsys
):
    product_runs(ENDS_SLOWLY)
    monkeypatch.setenv("TANDEM_VAR", str(settings.var))
    monkeypatch.setattr(launcher, "prepare", lambda _settings: pytest.fail("it has prepared"))
    with Tandem(settings):
        wait_for(settings)
        with pytest.raises(AlreadyRunning, match=f"runs in {settings.var} already.*`make stop`.*TANDEM_VAR"):
            Supervisor(settings).refuse_a_second()
        assert launcher.main([]) == 1
        assert f"runs in {settings.var} already" in capsys.readouterr().out
        Supervisor(settings).shut_down()
        with pytest.raises(AlreadyRunning, match=f"still ends in {settings.var}"):
            Supervisor(settings).refuse_a_second()
    Supervisor(settings).refuse_a_second()


def test_beside_the_dispatchers_page_it_says_where_their_token_lies(settings, capsys):
    print_pages(settings, Console(soft_wrap=True))

    assert f"/dispatch  (staff token: `staff` in {settings.tokens_file})" in capsys.readouterr().out


@pytest.mark.parametrize(("length", "sound"), [(95, True), (96, False)])
def test_a_socket_leaves_room_for_the_name_under_which_it_is_bound_first(length, sound):
    """`<socket>.<process id>` with a dot and up to seven digits, where macOS takes 103 bytes and Linux 107."""
    var = "/" + "v" * (length - len("//supervisor.sock"))
    if sound:
        assert len(str(Supervisor(DeploySettings(var=var)).socket)) == length
    else:
        with pytest.raises(TandemError, match="set TANDEM_VAR to a shorter one"):
            Supervisor(DeploySettings(var=var))
