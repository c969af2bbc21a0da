"""The data team's settings: the city's seed beside the shared addresses."""

from __future__ import annotations

from contracts.addresses import Addresses


class Settings(Addresses):
    """Read once from `TANDEM_*`. `city_seed` fixes everything the reference city ever does, past and future."""

    city_seed: int = 20260601
