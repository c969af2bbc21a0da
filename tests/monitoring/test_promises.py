"""Promise levels: which bundle's are shown, what they say in words, and where they lie in the picture."""

from __future__ import annotations

import doctest
from itertools import pairwise

import pytest

from contracts import requirements
from contracts.bundle import PromiseLevel
from monitoring import charts, promises
from monitoring.charts import CURVE_HEIGHT, CURVE_WIDTH, round_values
from monitoring.promises import NoLevels, NoReleaseYet, slider
from tests.monitoring.recorded import LIVE, promise_levels, release

LATE = requirements.load()["late-promises"]


def released(version, levels=None):
    return release(LIVE, version, levels=levels)[2].data


@pytest.mark.parametrize("module", [promises, charts])
def test_the_examples_in_its_docstrings_hold(module):
    told = doctest.testmod(module)
    assert told.attempted >= 1
    assert told.failed == 0


def test_the_champions_levels_come_before_a_newer_releases():
    shown = promises.promises([released("v1"), released("v2")], "v1", LATE)
    assert (shown.bundle_version, shown.champion) == ("v1", True)


@pytest.mark.parametrize("champion", [None, "v0"])
def test_without_a_known_champion_the_newest_release_is_shown_and_named_so(champion):
    shown = promises.promises([released("v1"), released("v2")], champion, LATE)
    assert (shown.bundle_version, shown.champion) == ("v2", False)


def test_nothing_released_is_told_apart_from_a_release_without_levels():
    with pytest.raises(NoReleaseYet, match="no bundle has been released"):
        promises.promises([], None, LATE)
    with pytest.raises(NoLevels, match="bundle v1 was released without promise levels"):
        promises.promises([released("v1", levels=[])], "v1", LATE)


def test_levels_without_todays_are_refused_since_nothing_could_be_held_against_it():
    others = [level for level in promise_levels() if level.stretch != 1]
    with pytest.raises(NoLevels, match="of 36 in its evidence none is today's"):
        promises.promises([released("v1", levels=others)], "v1", LATE)


def test_levels_come_in_order_of_stretch_whatever_their_order_in_the_evidence():
    shown = promises.promises([released("v1", levels=promise_levels()[::-1])], "v1", LATE)
    assert shown.levels == promise_levels()


def test_in_the_picture_longer_promises_lie_to_the_right_and_rarer_lateness_lower():
    shown = slider(promises.promises([released("v1")], "v1", LATE))
    assert all(before.x < after.x and before.y < after.y for before, after in pairwise(shown.choices))
    assert all(0 <= it.x <= CURVE_WIDTH and 0 <= it.y <= CURVE_HEIGHT for it in shown.choices)
    zero, *_, highest = shown.picture.up
    assert zero == (CURVE_HEIGHT, "0")
    assert highest[1] == "50"
    by_height = (CURVE_HEIGHT - shown.choices[0].y) / (CURVE_HEIGHT - shown.choices[shown.today].y)
    assert by_height == pytest.approx(5, rel=0.02)  # half against one in ten


def test_which_levels_keep_the_limit_and_where_its_line_lies_follow_the_record():
    for limit in (LATE.ceiling, 0.3):
        record = LATE.model_copy(update={"at_most": limit})
        shown = slider(promises.promises([released("v1")], "v1", record))
        assert [it.kept for it in shown.choices] == [level.late_share <= limit for level in promise_levels()]
        assert {it.kept for it in shown.choices} == {True, False}
        assert all(it.kept == (it.y >= shown.picture.limit) for it in shown.choices)


def test_only_todays_stop_is_called_todays():
    shown = slider(promises.promises([released("v1")], "v1", LATE))
    assert [place for place, it in enumerate(shown.choices) if it.cost == "no change"] == [shown.today]
    assert shown.choices[shown.today].level.stretch == 1
    assert "shorter" in shown.choices[shown.today - 1].cost
    assert "more late" in shown.choices[shown.today - 1].cost
    assert "longer" in shown.choices[shown.today + 1].cost
    assert "fewer late" in shown.choices[shown.today + 1].cost


def test_a_single_level_still_makes_a_picture():
    only = [PromiseLevel(stretch=1, promised_min=30, late_share=0)]
    shown = slider(promises.promises([released("v1", levels=only)], "v1", LATE))
    assert shown.choices[0].said.startswith("Promising 30.0 min on average, no parcel comes later")
    assert 0 <= shown.choices[0].x <= CURVE_WIDTH


@pytest.mark.parametrize(("low", "high"), [(0, 53), (17.2, 48.9), (29.5, 30.5), (0, 0.02), (100, 1100)])
def test_axis_labels_are_few_round_and_inside(low, high):
    values = round_values(low, high)
    assert 2 <= len(values) <= 7
    assert all(low <= value <= high for value in values)
    steps = {round(after - before, 9) for before, after in pairwise(values)}
    assert len(steps) == 1
    assert str(steps.pop()).strip("0.") in ("1", "2", "5")
