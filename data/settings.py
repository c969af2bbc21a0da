"""The data team's settings: the city's seed beside the shared addresses."""

from __future__ import annotations

from pathlib import Path

from chassis.addresses import Addresses


class Settings(Addresses):
    """Read once from `TANDEM_*`. `city_seed` fixes everything the reference city ever does, past and future."""

    city_seed: int = 20260601

    @property
    def lake(self) -> Path:
        """Where accepted trips lie, by day."""
        return self.var / "lake"

    @property
    def quarantine(self) -> Path:
        """Where refused rows lie, by batch."""
        return self.var / "quarantine"

    @property
    def zone_reference(self) -> Path:
        """What data has learned of the city's routes."""
        return self.var / "zone_reference.json"
