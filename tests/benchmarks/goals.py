"""What the model is asked to reach beside the requirements that the gate holds: each number once, with its words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from contracts.requirements import Requirement

State = Literal["passed", "failed", "void"]


@dataclass(frozen=True)
class Verdict:
    """One line of a report: what was asked, what was measured, what follows. `void` says that it decides nothing."""

    goal: str
    limit: str
    measured: float
    state: State
    note: str = ""


@dataclass(frozen=True)
class Goal:
    """A limit from one side, or from both, in `unit`."""

    statement: str
    unit: str
    at_least: float = -float("inf")
    at_most: float = float("inf")

    @property
    def limit(self) -> str:
        """The limit in words."""
        low, high = f"at least {self.at_least:g}", f"at most {self.at_most:g}"
        told = [text for text, bound in ((low, self.at_least), (high, self.at_most)) if abs(bound) != float("inf")]
        return f"{' and '.join(told)} {self.unit}".rstrip()

    def judge(self, measured: float, note: str = "", void: str = "") -> Verdict:
        """The verdict; `void` says why there is none. What is not a number has failed."""
        state: State = "passed" if self.at_least <= measured <= self.at_most else "failed"
        return Verdict(self.statement, self.limit, measured, "void" if void else state, void or note)


def asked_by_record(requirement: Requirement) -> Goal:
    """A requirement of the record as a goal."""
    low = -float("inf") if requirement.at_least is None else requirement.at_least
    high = float("inf") if requirement.at_most is None else requirement.at_most
    return Goal(requirement.statement, requirement.unit, low, high)


LEAST_TEST_TRIPS, LEAST_TEST_DAYS = 10_000, 14  # below this coverage is chance

CITY_ORACLE = Goal("city: loss over the oracle's", "ratio", at_most=1.03)
CITY_LIGHTGBM = Goal("city: loss over LightGBM's", "ratio", at_most=1.0)
CITY_HEURISTIC = Goal("city: loss over the better heuristic's", "ratio", at_most=0.9)
CITY_LEAK = Goal("city: least loss of any rival over the oracle's (below: a leak)", "ratio", at_least=0.99)
COVERAGE_P90 = Goal("p90 covers .9, off by", "share", at_most=0.01)
COVERAGE_BAND = Goal("p10 to p90 covers .8, off by", "share", at_most=0.015)
GROUPS_OUTSIDE = Goal("zone groups whose whole interval lies outside their limits", "groups", at_most=0)
WITHOUT_WEATHER = Goal("loss with weather missing, over a model's trained without", "ratio", at_most=1.03)
SHRUNK = Goal("quantiles that shrink on a longer route", "of all probed", at_most=0)
CROSSED = Goal("quantiles that cross", "of all probed", at_most=0)

NY_LIGHTGBM = Goal("New York: loss over LightGBM's", "ratio", at_most=0.98)
NY_LIGHTGBM_SOUND = Goal("New York: LightGBM's own loss (above: the comparison is void)", "s", at_most=71.0)
NY_LOSS = Goal("New York: loss on the filtered rows", "s", at_most=69.0)
NY_LEAK = Goal("New York: least loss of any rival (below: a leak until disproved)", "s", at_least=62.0)
NY_ZONE_PAIR = Goal("New York: loss over the heuristic's by zone pair", "ratio", at_most=0.85)

TRAINING_S = Goal("training on 200,000 trips", "s", at_most=60)
TRAINING_MB = Goal("peak memory of a training on 200,000 trips", "MB", at_most=2000)
GROWTH = Goal("training seconds a row with most rows, over those with fewer (a tenth for noise)", "ratio", at_most=1.1)
ONE_TRIP_US = Goal("one trip through onnxruntime", "µs", at_most=100)
BATCH_US = Goal("256 trips through onnxruntime", "µs", at_most=2000)
