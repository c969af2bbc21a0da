"""How Tandem is started."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, get_args

from pydantic import Field

from chassis.addresses import Addresses

Service = Literal["product", "serving", "monitoring", "city", "data", "model"]
SERVICES: tuple[Service, ...] = get_args(Service)


class DeploySettings(Addresses):
    """`speed` is city seconds per wall second. A start from nothing simulates `history_weeks` that end at `city_start`,
    where the live city begins; the data team's history ends at the same instant (a test compares the two).
    """

    speed: Annotated[float, Field(gt=0, le=100_000)] = 120
    history_weeks: Annotated[int, Field(ge=1)] = 8
    city_start: datetime = datetime.fromisoformat("2026-06-01T07:00:00+02:00")
    time_zone: str = "Europe/Berlin"
