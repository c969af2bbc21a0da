"""Where everything lives by default: ports, URLs and `var/`, all settable as `TANDEM_*`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ModelWrapValidatorHandler, ValidationError, model_validator

from contracts.problems import TandemError

Port = Annotated[int, Field(ge=1, le=65535)]


class UnsoundSetting(TandemError):
    """A setting has a value that it cannot have, or there is no such setting."""

    def __init__(self, error: ValidationError) -> None:
        faults = (f"{_variable(str(it['loc'][0]))} is {it['input']!r}: {it['msg']}" for it in error.errors())
        super().__init__("; ".join(faults))


class Addresses(BaseModel):
    """Settings that more than one team needs. A team's own settings extend this class; services bind to loopback.

    What is given to a constructor goes before the environment, which goes before the defaults. Raises `UnsoundSetting`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    var: Path = Path("var")
    bind: str = "127.0.0.1"

    log: Literal["text", "json"] = "text"  # how logs are written: for people, or a line of JSON per event
    otlp_endpoint: str = ""  # OpenTelemetry collector that gets spans over HTTP, such as http://127.0.0.1:4318

    product_port: Port = 8000
    serving_port: Port = 8001
    monitoring_port: Port = 8002
    city_port: Port = 8003
    data_port: Port = 8004
    model_port: Port = 8005

    product_url: str = ""
    serving_url: str = ""
    monitoring_url: str = ""
    city_url: str = ""
    data_url: str = ""
    model_url: str = ""

    product_database_url: str = ""
    serving_database_url: str = ""
    monitoring_database_url: str = ""
    city_database_url: str = ""
    data_database_url: str = ""
    model_database_url: str = ""

    @model_validator(mode="wrap")
    @classmethod
    def _over_the_environment(cls, given: dict[str, Any], build: ModelWrapValidatorHandler[Self]) -> Self:
        told = {name: os.environ[variable] for name in cls.model_fields if (variable := _variable(name)) in os.environ}
        try:
            return build(told | given)
        except ValidationError as error:
            raise UnsoundSetting(error) from error

    def url(self, service: str) -> str:
        """Base URL of a service: its setting, else loopback at its port."""
        return getattr(self, f"{service}_url") or f"http://127.0.0.1:{self.port(service)}"

    def port(self, service: str) -> int:
        """Port a service listens on."""
        port: int = getattr(self, f"{service}_port")
        return port

    def database_url(self, service: str) -> str:
        """SQLAlchemy URL of a service's own database: its setting, else one SQLite file per service in `var`."""
        url: str = getattr(self, f"{service}_database_url")
        return url or f"sqlite:///{self.var.absolute() / service}.db"

    @property
    def clock_file(self) -> Path:
        """The one clock."""
        return self.var / "clock.json"

    @property
    def tokens_file(self) -> Path:
        """Tokens of staff, couriers and control, generated at the first start, mode 0600."""
        return self.var / "tokens"

    @property
    def metrics(self) -> Path:
        """Where the workers of a service count together while it runs."""
        return self.var / "metrics"

    @property
    def bundles(self) -> Path:
        """Where sealed bundles lie."""
        return self.var / "bundles"

    @property
    def measured(self) -> Path:
        """Where checks leave what they measured of the requirements."""
        return self.var / "measured"

    @property
    def snapshots(self) -> Path:
        """Where snapshots lie."""
        return self.var / "snapshots"


def _variable(setting: str) -> str:
    """The environment variable of a setting."""
    return f"TANDEM_{setting.upper()}"
