"""What adds or saves minutes, in words, on the page alone and only where the model's own estimate is shown."""

from __future__ import annotations

from typing import get_args

import pytest

from contracts.estimates import Explanation, Quantiles, Reason, ReasonGroup
from product.desk import decide, explanation_of
from product.estimator import Answered, Unanswered
from product.reasons import MOST_TOLD, WORDS, in_words
from tests.product.conftest import WISH, eventually
from tests.product.neighbours import BECAUSE, MODEL_SAYS
from tests.product.test_without_the_model import a_trip, last_quoted

IN_WORDS = (
    "A typical trip takes about 24 min. The shorter way saves 9 min, the weather adds 3 min, "
    "this vehicle with its load saves 1 min."
)
USUAL = Quantiles(p10_min=20, p50_min=25, p90_min=44.5)


def because(**minutes: float) -> Explanation:
    return Explanation(typical_min=23.5, reasons=[Reason(group=group, minutes=it) for group, it in minutes.items()])


def test_the_largest_are_told_first_and_what_is_under_half_a_minute_is_not():
    assert in_words(BECAUSE) == IN_WORDS


def test_no_more_is_told_than_one_reads():
    told = in_words(because(distance=1, time_of_week=-2, weather=3, city_pace=-4, vehicle=5, zones=6))

    assert MOST_TOLD == 4
    assert told == (
        "A typical trip takes about 24 min. These two places add 6 min, this vehicle with its load adds 5 min, "
        "the traffic saves 4 min, the weather adds 3 min."
    )


def test_a_typical_trip_is_called_one():
    assert in_words(because(distance=0.49, zones=-0.3)) == "A typical trip takes about 24 min, and so does this one."


@pytest.mark.parametrize("group", get_args(ReasonGroup))
def test_every_group_has_words_for_more_and_for_less(group):
    adds, saves = in_words(because(**{group: 0.5})), in_words(because(**{group: -0.5}))

    assert WORDS.keys() == set(get_args(ReasonGroup))
    assert " add" in adds
    assert " save" in saves
    assert adds.endswith(" 1 min.")
    assert saves.endswith(" 1 min.")


def test_only_the_models_own_estimate_is_explained():
    answer = Answered(MODEL_SAYS, "e1", "v7", BECAUSE)
    late = Unanswered("late", "no answer")

    assert explanation_of(decide(a_trip(), answer, USUAL, audit_share=0), answer) == BECAUSE
    assert explanation_of(decide(a_trip(), answer, USUAL, audit_share=1), answer) is None
    assert explanation_of(decide(a_trip(), late, USUAL, audit_share=0), late) is None


def page_of_a_quote(tandem, **headers: str) -> str:
    got = tandem.client.post("/quotes", data=WISH, headers=headers)
    assert got.status_code == 200, got.text
    return got.text


def by_the_model(tandem, **headers: str) -> str:
    """A page of a quote by the model: some quotes are audits, some answers late."""

    def page() -> str | None:
        text = page_of_a_quote(tandem, **headers)
        return text if last_quoted(tandem).source == "model" else None

    return eventually(page, "the model is in time for a quote that is no audit")


def test_the_page_tells_reasons_with_and_without_script(tandem):
    assert IN_WORDS in by_the_model(tandem, **{"HX-Request": "true"})
    assert IN_WORDS in by_the_model(tandem)
    assert all(asked.with_reasons for asked in tandem.serving.asked)
    assert "typical" not in tandem.client.get("/feeds/trips").text  # told, and kept by nobody


def test_where_there_are_none_the_page_tells_none(tandem):
    tandem.serving.way = "no reasons"
    assert "typical trip" not in by_the_model(tandem)
    tandem.serving.way = "out of scope"
    assert "typical trip" not in page_of_a_quote(tandem)
    assert "of booking" in page_of_a_quote(tandem)


def test_the_api_asks_for_no_reasons_in_the_words_it_always_used(tandem):
    tandem.quote()

    [asked] = tandem.serving.asked
    assert not asked.with_reasons
    assert "with_reasons" not in asked.model_fields_set  # so that a serving of before understands it
