"""Settings: what is given before the environment before the defaults, and unsound ones named."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

import pytest

from chassis.addresses import Addresses, UnsoundSetting


class Some(Addresses):
    """A team's settings, of every type that teams use."""

    some_share: float = 0.5
    some_peer: bool = False
    some_start: datetime = datetime.fromisoformat("2026-06-01T07:00:00+02:00")


@pytest.fixture(autouse=True)
def _nothing_told(monkeypatch):
    for name in [name for name in os.environ if name.startswith("TANDEM_")]:
        monkeypatch.delenv(name)


def test_the_environment_is_read_as_each_settings_type(monkeypatch):
    told = {
        "TANDEM_VAR": "/srv/tandem",
        "TANDEM_LOG": "json",
        "TANDEM_SERVING_PORT": "9001",
        "TANDEM_SERVING_URL": "",
        "TANDEM_SOME_SHARE": "0.25",
        "TANDEM_SOME_PEER": "true",
        "TANDEM_SOME_START": "2026-07-01T07:00:00+02:00",
        "TANDEM_OF_NOBODY": "is no matter",
    }
    for name, text in told.items():
        monkeypatch.setenv(name, text)

    assert Some() == Some(
        var=Path("/srv/tandem"),
        log="json",
        serving_port=9001,
        serving_url="",
        some_share=0.25,
        some_peer=True,
        some_start=datetime.fromisoformat("2026-07-01T07:00:00+02:00"),
    )
    assert Addresses().url("serving") == "http://127.0.0.1:9001"


def test_what_is_given_goes_before_the_environment_and_this_before_defaults(monkeypatch):
    monkeypatch.setenv("TANDEM_SERVING_PORT", "9001")
    monkeypatch.setenv("TANDEM_DATA_PORT", "9004")

    found = Some(serving_port=1)

    assert (found.serving_port, found.data_port, found.product_port) == (1, 9004, 8000)


def test_unsound_settings_are_named_all_at_once(monkeypatch):
    monkeypatch.setenv("TANDEM_LOG", "xml")
    monkeypatch.setenv("TANDEM_SERVING_PORT", "")

    with pytest.raises(UnsoundSetting) as told:
        Some()

    assert str(told.value) == (
        "TANDEM_LOG is 'xml': Input should be 'text' or 'json'; "
        "TANDEM_SERVING_PORT is '': Input should be a valid integer, unable to parse string as an integer"
    )


def test_a_misspelt_setting_is_not_passed_over():
    with pytest.raises(UnsoundSetting, match="TANDEM_SOME_PORT is 1"):
        Some(some_port=1)


def test_settings_never_change():
    with pytest.raises(ValueError, match="frozen"):
        Some().var = Path("/elsewhere")


@pytest.mark.parametrize("port", ["0", "-1", "65536", "99999"])
def test_a_port_that_no_socket_can_have_is_unsound(port, monkeypatch):
    monkeypatch.setenv("TANDEM_PRODUCT_PORT", port)

    with pytest.raises(UnsoundSetting, match=f"TANDEM_PRODUCT_PORT is '{port}': Input should be "):
        Addresses()
