"""Every command ends a fault that has a name in its words, with status 1, and never in a traceback."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from chassis.clock import real_time
from contracts.problems import TandemError, plain_words
from deploy.prepare import PreparationFailed, prepare
from deploy.settings import DeploySettings

COMMANDS = [
    "deploy.control stop",
    "deploy.control kill serving",
    "deploy.control incident calm",
    "deploy.requirements",
    "deploy.smoke",
    "deploy.exports",
    "data.worker",
    "data.history --out nowhere",
    "data.quarantine",
    "data.snapshots --source city",
    "model.worker",
    "model.train --snapshot nowhere",
    "model.rebuild --bundle v1",
    "model.aliases",
    "model.feasible --review",
    "model.data_value",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unsound_setting_is_named(command, monkeypatch):
    module, *arguments = command.split()
    monkeypatch.setattr(sys, "argv", [module, *arguments])
    monkeypatch.setenv("TANDEM_PRODUCT_PORT", "abc")

    with pytest.raises(SystemExit) as ended:
        importlib.import_module(module).main()

    assert str(ended.value).startswith("TANDEM_PRODUCT_PORT is 'abc': ")


@pytest.mark.parametrize("module", ["data.city", "loadtests.traffic"])
def test_so_it_is_where_the_module_itself_is_the_command(module, monkeypatch):
    monkeypatch.setenv("TANDEM_PRODUCT_PORT", "abc")
    ended = subprocess.run([sys.executable, "-m", module], check=False, capture_output=True, text=True)

    assert ended.returncode == 1
    assert ended.stderr.startswith("TANDEM_PRODUCT_PORT is 'abc': ")


def test_a_snapshot_of_no_trips_is_refused_in_words(tmp_path, monkeypatch):
    monkeypatch.setenv("TANDEM_VAR", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["data.snapshots", "--source", "city"])
    real_time().save(tmp_path / "clock.json")

    with pytest.raises(SystemExit, match="no accepted trips"):
        importlib.import_module("data.snapshots").main()


def test_what_is_no_bundle_is_refused_in_words(tmp_path):
    arguments = ["--bundle", str(tmp_path / "v1"), "--snapshot", "nowhere", "--heuristic-from", "nowhere"]

    with pytest.raises(SystemExit, match="v1: no SHA256SUMS"):
        importlib.import_module("model.evaluate").main(arguments)


def test_what_was_not_raised_on_purpose_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError), plain_words():
        _ = 1 / 0
    with pytest.raises(SystemExit, match="the roof leaks"), plain_words():
        raise TandemError("the roof leaks: mend it")


def test_a_var_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(PreparationFailed, match=r"file.* cannot be written .*: set TANDEM_VAR to a folder that can"):
        prepare(DeploySettings(var=tmp_path / "file" / "var"))
