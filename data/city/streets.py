"""The city's ground: zones on two river banks, bridges, planned routes, hills, handover times."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from contracts.conditions import CityMap, MapZone
from contracts.problems import TandemError
from data.city.dice import Dice
from data.city.times import ZONE, Bools, Floats, Ints

SPACING_KM = 1.4  # between neighbouring centroids
ROWS, RIVER_ROW = 8, 4  # rows of the hexagonal lattice from south to north; the river runs south of RIVER_ROW
RIVER_KM = 0.8
BRIDGES_KM = (1.5, 4.4, 7.3, 10.0)  # where each bridge crosses, km from the western edge
GROUPS = ("Harbour", "Southbank", "Gardens", "Mills", "Old Town", "University", "Hillside")
ROADS = ("lane", "avenue", "bridge")


class UnknownZone(TandemError):
    """A zone that is not on the city's map."""


@dataclass(frozen=True)
class Streets:
    """The map, made from the seed. Arrays are indexed by zone index = zone number - 1, or by (from, to)."""

    dice: Dice

    @cached_property
    def lattice(self) -> tuple[Floats, Floats, Ints]:
        """Centroids east and north in km, and the row of each zone."""
        cells = [(column, row) for row in range(ROWS) for column in range(8 - row % 2)]
        column, row = np.array(cells).T
        east = SPACING_KM * (column + 0.5 + row % 2 / 2)
        north = SPACING_KM * (row * np.sqrt(3) / 2 + 0.6) + RIVER_KM * (row >= RIVER_ROW)
        return east, north, row.astype(np.int64)

    @cached_property
    def count(self) -> int:
        """Number of zones."""
        return len(self.lattice[0])

    @cached_property
    def north_bank(self) -> Bools:
        """Whether a zone lies north of the river."""
        return np.asarray(self.lattice[2] >= RIVER_ROW)

    @cached_property
    def group(self) -> Ints:
        """Index into GROUPS per zone: thirds of each bank, and the hills behind the north bank."""
        third = np.minimum(self.lattice[0] // (SPACING_KM * 8 / 3), 2).astype(np.int64)
        return np.where(self.lattice[2] >= RIVER_ROW + 2, 6, third + 3 * self.north_bank)

    @cached_property
    def crossing(self) -> Bools:
        """Whether the planned route of a pair crosses the river."""
        return np.asarray(self.north_bank[:, None] != self.north_bank[None, :])

    @cached_property
    def route_km(self) -> Floats:
        """Planned route between every pair, never below 0.05 km; over the best bridge where the river is between."""
        east, north, row = self.lattice
        bank_km = north[row == RIVER_ROW][0] - SPACING_KM / np.sqrt(3)  # the northern shore
        direct = np.hypot(east[:, None] - east, north[:, None] - north)
        over = []
        for bridge in BRIDGES_KM:
            shore = np.where(self.north_bank, bank_km, bank_km - RIVER_KM)
            to_bridge = np.hypot(east - bridge, north - shore)
            over.append(to_bridge[:, None] + to_bridge)
        pairs = np.arange(self.count**2).reshape(self.count, self.count)
        winding = 1.3 * np.exp(0.03 * self.dice.normals(np.minimum(pairs, pairs.T), "winding"))
        route = winding * np.where(self.crossing, np.min(over, axis=0) + RIVER_KM / 1.3, direct)
        np.fill_diagonal(route, 0.6 + 0.5 * self.dice.uniforms(np.arange(self.count), "inside"))
        return np.round(route, 2)

    @cached_property
    def road_km(self) -> Floats:
        """Kilometres of each pair's route by road class, shape (3, zones, zones): long routes keep to avenues."""
        bridge = np.where(self.crossing, RIVER_KM, 0.0)
        avenue = (self.route_km - bridge) * (1 - np.exp(-self.route_km / 3.5))
        return np.stack([self.route_km - bridge - avenue, avenue, bridge])

    @cached_property
    def climb_m(self) -> Floats:
        """Metres a pair's route ends above its start; 0 downhill."""
        height = 28.0 * np.maximum(self.lattice[2] - RIVER_ROW, 0) + 8 * self.dice.uniforms(
            np.arange(self.count), "hill"
        )
        return np.maximum(height[None, :] - height[:, None], 0.0)

    @cached_property
    def handover_min(self) -> Floats:
        """Minutes at the door by zone: stairs, gates, counters."""
        by_group = np.array([2.5, 2.5, 2.0, 3.0, 4.2, 3.6, 2.2])[self.group]
        return by_group * (0.4 + 1.3 * self.dice.uniforms(np.arange(self.count), "handover"))

    @cached_property
    def remoteness(self) -> Floats:
        """How much longer a courier takes to a pickup in a zone than on average: fewer couriers at the edges."""
        east, north, _ = self.lattice
        away = np.hypot(east - east.mean(), north - north.mean())
        chance = self.dice.uniforms(np.arange(self.count), "remote")
        return np.asarray(0.75 + 0.5 * away / away.max() + 0.25 * chance)

    def index(self, zones: Ints) -> Ints:
        """Zone numbers to indices. Raises `UnknownZone`."""
        outside = (zones < 1) | (zones > self.count)
        if outside.any():
            raise UnknownZone(f"zone {zones[outside][0]} is not on the map: zones are 1 to {self.count}")
        return zones - 1

    def published(self, unit_km: float = 1.0) -> CityMap:
        """The map as the conditions feed carries it, routes in units of `unit_km`."""
        east, north, _ = self.lattice
        angles = np.deg2rad(np.arange(30, 390, 60))
        around = SPACING_KM / np.sqrt(3) * np.stack([np.cos(angles), np.sin(angles)])
        seen = [0] * len(GROUPS)
        zones = []
        for zone in range(self.count):
            group = int(self.group[zone])
            seen[group] += 1
            corners = np.round(np.stack([east[zone] + around[0], north[zone] + around[1]], axis=1), 3)
            zones.append(
                MapZone(
                    zone=zone + 1,
                    name=f"{GROUPS[group]} {seen[group]}",
                    group=GROUPS[group],
                    bank="north" if self.north_bank[zone] else "south",
                    x_km=round(float(east[zone]), 3),
                    y_km=round(float(north[zone]), 3),
                    outline=[(float(x), float(y)) for x, y in corners],
                )
            )
        return CityMap(time_zone=ZONE.key, zones=zones, route_km=np.round(self.route_km / unit_km, 3).tolist())
