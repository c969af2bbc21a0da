"""Feasibility: curves recovered, verdicts that follow from them, records, forecasts held against what came true."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from contracts import requirements
from contracts.requirements import BadRecord, Requirement
from model import feasible
from model.candidate import afresh
from model.evaluation import Results
from model.forecasts import (
    CannotForecast,
    Expected,
    Forecast,
    TooFewTrials,
    UnreadableForecast,
    asked,
    forecast,
    keep,
    kept,
)
from model.hindsight import hindsight, trainings
from model.learning_curve import FALLING, LINEAR, Curves, Drawn, Outlook, draw, fit, furthest, ratio
from model.snapshot import Snapshot, read, split
from model.trials import NotEnoughGroups, TrainedOn, Trial, sizes, trials, with_rows
from tests.model import small_city

RECORD = requirements.load()
LOSS = RECORD["loss-against-heuristic"]
SIZES = np.repeat([6250.0, 12_500.0, 25_000.0, 50_000.0, 100_000.0], 3)
NOISE = np.array([0.004, 0.003, 0.002, 0.0015, 0.001]).repeat(3)


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    folder = tmp_path_factory.mktemp("snapshots")
    return read(folder / small_city.write_snapshot(folder, small_city.trips(2600, 28, seed=5)).digest)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr("model.fit.FEWEST_STEPS", 10)
    monkeypatch.setattr("model.fit.EPOCHS", 1)


def noisy(a: float, b: float, c: float, seed: int) -> np.ndarray:
    """Values of a known power law at `SIZES`, the small ones noisier."""
    return a + b * SIZES**-c + np.random.default_rng(seed).normal(0, NOISE)


def some_trials(measured: np.ndarray, rows: np.ndarray = SIZES, days: float = 0.002) -> list[Trial]:
    moved = np.random.default_rng(1).normal(0, days, (600, 1))
    return [
        Trial(
            TrainedOn(rows=int(n), seed=1, measured=value, loss_min=2 * value, heuristic_loss_min=2, training_s=value),
            np.array([value]),
            value + moved,
        )
        for n, value in zip(rows.tolist(), measured.tolist(), strict=True)
    ]


def of_loss(trials: list[Trial]) -> list[Trial]:
    """The same, of a loss twice as large, beside a heuristic that loses two minutes on any number of rows."""
    two = np.full((600, 1), 2.0)
    return [
        replace(item, parts=np.array([2 * item.parts[0], 2]), resampled=np.hstack([2 * item.resampled, two]))
        for item in trials
    ]


def asked_for(at_most: float) -> Requirement:
    return LOSS.model_copy(update={"at_most": at_most})


def test_a_power_law_without_noise_is_recovered():
    found = fit(SIZES, (0.7 + 8 * SIZES**-0.5)[None], FALLING)

    assert found.a[0] == pytest.approx(0.7, abs=0.003)
    assert found.at(np.array([400_000.0]))[0, 0] == pytest.approx(0.7 + 8 * 400_000**-0.5, abs=0.002)


def test_intervals_cover_what_they_say():
    truth, later = 0.7, 0.7 + 8 * 400_000**-0.5
    inside = []
    for seed in range(60):
        measured = noisy(truth, 8, 0.5, seed)
        drawn = draw(SIZES, measured, np.repeat(measured[None], 400, axis=0), FALLING, seed)
        floor, ahead = (
            np.quantile(values, [0.025, 0.975]) for values in (drawn.curves.a, drawn.curves.at(np.array([400_000.0])))
        )
        inside.append((floor[0] <= truth <= floor[1], ahead[0] <= later <= ahead[1]))

    for share in np.mean(inside, axis=0):
        assert share >= 0.85  # 95% is promised; of 60 intervals that many hold by chance


def test_a_curve_that_rises_with_rows_is_flat_and_a_straight_line_is_found():
    rising = fit(SIZES, (0.5 + SIZES / 1e6)[None], FALLING)
    line = fit(SIZES, (2 + SIZES / 1e4)[None], LINEAR)

    assert rising.b[0] == 0
    assert rising.a[0] == pytest.approx(np.mean(0.5 + SIZES / 1e6))
    assert (line.a[0], line.b[0]) == (pytest.approx(2), pytest.approx(1e-4))


def test_no_loss_falls_below_nothing():
    found = fit(SIZES, (900 * SIZES**-1.0 - 0.01)[None], FALLING)

    assert found.a[0] >= 0
    assert (found.at(np.geomspace(1e3, 1e9, 20)) >= 0).all()


def an_outlook(exponent: float, *curves: tuple[float, float]) -> Outlook:
    """One curve `a + b * rows**exponent`, or the ratio of two, without noise."""
    single = [Curves(np.array([a]), np.array([b]), np.array([exponent])) for a, b in curves]
    figure = ratio if len(curves) == 2 else partial(furthest, 0.0)
    return Outlook([Drawn(curve, curve, np.zeros(1)) for curve in single], figure)


@pytest.mark.parametrize(
    ("outlook", "first"),
    [
        (an_outlook(-0.5, (0.7, 10)), 10_000),
        (an_outlook(-0.5, (1.4, 20), (2, 0)), 10_000),
        (an_outlook(-0.5, (1.4, 20), (2, 10)), 3600),  # the heuristic, too, loses more on few rows
        (an_outlook(-0.5, (0.7, 0)), 1000),
        (an_outlook(-0.5, (0.8, 10)), np.inf),
    ],
)
def test_the_rows_from_which_on_a_falling_curve_keeps_its_limit(outlook, first):
    assert outlook.first_kept(0.8, np.geomspace(1e3, 1e12, 4000))[0] == pytest.approx(first, rel=0.01)


@pytest.mark.parametrize(("line", "last"), [((2, 1e-4), 100_000), ((2, 0), np.inf), ((13, 1e-4), 0)])
def test_the_rows_up_to_which_a_rising_line_keeps_its_limit(line, last):
    assert an_outlook(1, line).last_kept(12, np.geomspace(1e3, 1e12, 4000))[0] == pytest.approx(last, rel=0.01)


@pytest.mark.parametrize(
    ("limit", "verdict"), [(0.75, "achievable"), (0.718, "achievable"), (0.701, "unlikely"), (0.66, "out of reach")]
)
def test_the_verdict_follows_from_the_curve_and_flips_when_the_limit_moves(snapshot, limit, verdict):
    found = forecast(asked_for(limit), of_loss(some_trials(noisy(0.7, 8, 0.5, 5))), snapshot, 5)

    assert found.verdict == verdict


@pytest.mark.parametrize(
    ("law", "verdict"), [((0.6, 30, 0.5), "achievable"), ((0.69, 3, 0.5), "unlikely"), ((0.8, 8, 0.5), "out of reach")]
)
def test_one_limit_has_another_verdict_on_another_curve(snapshot, law, verdict):
    found = forecast(asked_for(0.69), of_loss(some_trials(noisy(*law, 4), days=0.0005)), snapshot, 5)

    assert found.verdict == verdict


def test_the_rows_still_needed_have_an_interval_around_the_truth(snapshot):
    found = forecast(asked_for(0.718), of_loss(some_trials(noisy(0.7, 8, 0.5, 5), days=0)), snapshot, 5)

    assert found.rows_at_limit is not None
    low, middle, high = (rows or np.inf for rows in found.rows_at_limit)
    assert low < (8 / 0.018) ** 2 < high
    assert low < middle < high


def test_a_limit_below_all_that_rows_can_bring_needs_no_number_of_rows(snapshot):
    found = forecast(asked_for(0.5), of_loss(some_trials(noisy(0.7, 8, 0.5, 5))), snapshot, 5)

    assert found.rows_at_limit == (None, None, None)
    assert found.asymptote is not None
    assert found.asymptote[0] > 0.5
    assert "endless" in " ".join(feasible.words(found, asked_for(0.5)))


@pytest.mark.parametrize(("share", "verdict"), [(0.9, "achievable"), (0.872, "unlikely"), (0.82, "out of reach")])
def test_coverage_is_judged_by_its_spread_at_todays_rows(snapshot, share, verdict):
    values = np.where(SIZES < 50_000, 0.5, share + 0.1 * (NOISE - NOISE.mean()))  # what few rows cover tells nothing
    found = forecast(RECORD["coverage-p90"], some_trials(values, days=0.006), snapshot, 5)

    assert found.verdict == verdict
    assert found.rows_at_limit is None
    assert found.asymptote is None


def test_training_time_grows_with_rows_up_to_its_limit(snapshot):
    seconds = some_trials(2 + SIZES / 5000, days=0)
    found = forecast(RECORD["training-time"], seconds, snapshot, 5)

    assert found.verdict == "achievable"
    assert found.rows_at_limit is not None
    assert found.rows_at_limit[1] == pytest.approx((RECORD["training-time"].ceiling - 2) * 5000, rel=0.01)
    assert (
        forecast(RECORD["training-time"].model_copy(update={"at_most": 10}), seconds, snapshot, 5).verdict
        == "out of reach"
    )


def test_too_few_sizes_are_no_curve(snapshot):
    large = SIZES >= 25_000
    with pytest.raises(TooFewTrials, match=r"9 trainings in 0.5 minutes on 3 sizes.*takes 4"):
        forecast(LOSS, of_loss(some_trials(noisy(0.7, 8, 0.5, 5)[large], SIZES[large])), snapshot, 0.5)


@pytest.mark.parametrize(
    ("name", "limit", "said"),
    [
        ("bundle-size", None, "bundle_bytes.*ask for coverage-p90, .*loss-against-heuristic"),
        ("late-promises", None, "late_promise_share"),
        ("loss-against-heuristic", "0.8:0.9", "one number"),
        ("loss-against-heuristic", "low", "'low'.*one number"),
        ("loss-against-heuristic", "nan", "one number"),
        ("coverage-p90", "0.9", "LOW:HIGH"),
        ("coverage-p90", "0.92:0.88", "LOW:HIGH"),
    ],
)
def test_a_question_that_no_curve_answers_is_refused_with_those_that_can_be_asked(name, limit, said):
    with pytest.raises(CannotForecast, match=said):
        asked(RECORD, name, limit)


def test_another_limit_takes_the_place_of_the_agreed_one():
    assert asked(RECORD, "loss-against-heuristic", "0.7").ceiling == 0.7
    both = asked(RECORD, "coverage-p90", "0.88:0.92")
    assert (both.floor, both.ceiling) == (0.88, 0.92)
    assert asked(RECORD, "coverage-p90", None) == RECORD["coverage-p90"]
    with pytest.raises(BadRecord, match="no requirement 'speed'"):
        asked(RECORD, "speed", None)


@pytest.mark.parametrize(
    ("all_rows", "least", "smallest"), [(160_000, 1, 20_000), (40_000, 1, 9846), (1500, 1, 500), (1500, 700, 700)]
)
def test_sizes_stay_where_a_training_sees_each_row_as_often(all_rows, least, smallest):
    found = sizes(all_rows, least)

    assert (found[0], found[-1]) == (all_rows, smallest)
    assert found == sorted(found, reverse=True)
    assert np.ptp(np.diff(np.log(found))) < 0.01


@pytest.mark.parametrize("rows", [300, 800, 1500])
def test_a_share_of_the_rows_is_judged_on_the_same_trips(snapshot, rows):
    whole, share = split(snapshot.trips), with_rows(snapshot, rows, seed=1)
    windows = split(share.snapshot.trips, share.held_out)

    assert len(windows.train) == rows
    for part, same in ((windows.calibration, whole.calibration), (windows.test, whole.test)):
        assert np.array_equal(part.requested_at, same.requested_at)
    assert np.isin(windows.train.requested_at, whole.train.requested_at).all()
    other = with_rows(snapshot, rows, seed=2).snapshot.trips.requested_at
    assert not np.array_equal(share.snapshot.trips.requested_at, other)


@pytest.mark.slow
def test_no_training_starts_when_the_time_is_over_and_none_again_that_would_not_fit(snapshot, quick):
    def tried(minutes: float) -> list[int]:
        clock = iter(
            np.arange(0.0, 6000.0, 60.0)
        )  # each look at the clock finds it a minute later: so a training takes one
        found = trials(snapshot, LOSS, RECORD, minutes, Console(), now=lambda: float(next(clock)))
        return [item.told.rows for item in found]

    rows = len(split(snapshot.trips).train)
    assert tried(0) == [rows]
    assert tried(8.5) == sizes(rows, least=1)[:3]
    assert tried(15.5) == sizes(rows, least=1)  # half a minute is left, and a training takes one


def test_groups_are_judged_only_with_enough_outcomes(snapshot, quick):
    with pytest.raises(NotEnoughGroups, match=f"no zone group has {RECORD.policy.group_outcomes} of the"):
        trials(snapshot, RECORD["group-coverage-p90"], RECORD, 0, Console())


def test_the_zone_group_furthest_from_the_limits_middle_counts(snapshot, quick):
    policy = RECORD.policy.model_copy(update={"group_outcomes": 20})
    asked_of = RECORD["group-coverage-p90"]
    (found,) = trials(snapshot, asked_of, RECORD.model_copy(update={"policy": policy}), 0, Console())
    (overall,) = trials(snapshot, RECORD["coverage-p90"], RECORD, 0, Console())

    middle = (asked_of.floor + asked_of.ceiling) / 2
    assert len(found.parts) == len(small_city.GROUPS)
    assert abs(found.told.measured - middle) == max(abs(found.parts - middle))
    assert overall.parts == [overall.told.measured]
    assert min(found.parts) <= overall.told.measured <= max(found.parts)


def test_any_group_may_fail_the_limit_on_either_side(snapshot):
    """Two groups, right on the average: each alone keeps its limits or breaks them, whatever the other does."""

    def judged(*shares: float) -> str:
        noise = np.random.default_rng(2).normal(0, 0.005, (600, len(shares)))
        told = some_trials(np.full(len(SIZES), shares[0]))
        both = [replace(item, parts=np.array(shares), resampled=np.array(shares) + noise) for item in told]
        return forecast(RECORD["group-coverage-p90"], both, snapshot, 5).verdict

    assert judged(0.9, 0.9) == "achievable"
    assert judged(0.9, 0.82) == judged(0.9, 0.98) == judged(0.82, 0.98) == "out of reach"


def test_coverage_strays_by_the_days_that_calibrated_as_well(snapshot, quick):
    (found,) = trials(snapshot, RECORD["coverage-p90"], RECORD, 0, Console())
    windows = split(snapshot.trips)
    share = with_rows(snapshot, len(windows.train), seed=1)
    candidate = afresh(share.snapshot, 1, lambda _: None, share.held_out)
    tested = Results.of(candidate.test, candidate.quantiles_min, candidate.heuristic_min).slice()
    low, high = np.quantile(found.resampled, [0.025, 0.975])

    assert found.told.measured == pytest.approx(tested.coverage_p90)
    wider = (high - low) / np.ptp(tested.bounds["coverage_p90"])
    assert wider == pytest.approx(np.sqrt(1 + len(windows.test) / len(windows.calibration)), rel=0.01)


def a_forecast(snapshot: Snapshot, **changes: object) -> Forecast:
    return forecast(LOSS, of_loss(some_trials(noisy(0.7, 8, 0.5, 5))), snapshot, 5).model_copy(update=changes)


def test_a_record_appears_in_one_step_and_reads_back_as_written(snapshot, tmp_path):
    first, second = a_forecast(snapshot, minutes=1.0), a_forecast(snapshot, minutes=2.0)
    keep(first, tmp_path / "feasible" / "answer.json")
    os.link(tmp_path / "feasible" / "answer.json", tmp_path / "seen-by-a-reader")
    keep(second, tmp_path / "feasible" / "answer.json")

    assert kept(tmp_path / "feasible") == {"answer": second}
    assert Forecast.model_validate_json((tmp_path / "seen-by-a-reader").read_bytes()) == first
    assert [file.name for file in (tmp_path / "feasible").iterdir()] == ["answer.json"]


def test_a_file_that_is_no_record_is_named(tmp_path):
    (tmp_path / "cut.json").write_text('{"requirement": "loss')
    with pytest.raises(UnreadableForecast, match=r"cut\.json.*remove it, or ask again"):
        kept(tmp_path)


def expected_around(middle: float, off: float) -> list[Expected]:
    return [
        Expected(rows=rows, middle=middle + off, bounds=(middle + off - 0.01, middle + off + 0.01))
        for rows in (100, 1_000_000)
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("off", "inside"), [(0.0, True), (0.02, False)])
def test_a_forecast_is_held_against_a_later_training(trained, snapshot, off, inside):
    overall = trained.release.evidence.overall
    ratio = overall.pinball_min / overall.heuristic_pinball_min
    made = a_forecast(snapshot, rows=1000, expected=expected_around(ratio, off))
    done, left_out = trainings([trained.settings.bundles], trained.settings.snapshots)
    (found,) = hindsight({"answer": made}, done, RECORD.policy.group_outcomes)

    assert left_out == []
    assert found.training.rows == len(trained.windows.train)
    assert found.measured == pytest.approx(ratio)
    assert found.inside is inside


@pytest.mark.parametrize("changes", [{"rows": 10_000_000}, {"source": "tlc"}, {"expected": []}])
def test_only_more_rows_of_the_same_source_within_reach_say_anything(trained, snapshot, changes):
    near = [Expected(rows=rows, middle=0.8, bounds=(0.7, 0.9)) for rows in (100, 200)]
    made = a_forecast(snapshot, **{"rows": 1000, "expected": near} | changes)
    if changes.get("expected") is None:
        made = made.model_copy(update={"expected": expected_around(0.8, 0)})
    else:
        made = made.model_copy(update={"expected": near})
    done, _ = trainings([trained.settings.bundles], trained.settings.snapshots)

    assert list(hindsight({"answer": made}, done, RECORD.policy.group_outcomes)) == []


def test_a_training_whose_snapshot_is_gone_is_left_out_and_told(trained, tmp_path):
    done, left_out = trainings([trained.settings.bundles], tmp_path)

    assert done == []
    (line,) = left_out
    assert line.startswith(f"{trained.release.version}: snapshot ")


def run(
    arguments: Sequence[str], var: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> tuple[int, str]:
    monkeypatch.setenv("TANDEM_VAR", str(var))
    ended = feasible.main(arguments)
    return ended, " ".join(capsys.readouterr().out.split())


def test_from_question_to_record_and_review(tmp_path, quick, monkeypatch, capsys):
    made = small_city.write_snapshot(tmp_path / "snapshots", small_city.trips(2600, 28, seed=5))
    monkeypatch.setattr("model.trials.SEEDS", 1)
    ended, said = run(["--requirement", LOSS.id, "--limit", "5"], tmp_path, monkeypatch, capsys)

    assert ended == 0, said
    assert "at most 5 ratio is achievable" in said
    (found,) = kept(tmp_path / "feasible").values()
    assert (found.snapshot_digest, found.at_most, found.verdict) == (made.digest, 5, "achievable")
    record = tmp_path / "feasible" / f"{LOSS.id}-{made.digest[:12]}-limit-5.json"
    assert record.is_file()
    assert record.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert f'"model: at most 5 ratio is achievable: {found.measured:.3g}' in said
    ended, said = run(["--review"], tmp_path, monkeypatch, capsys)
    assert ended == 0
    assert f"nothing to hold the 1 forecasts against yet: they speak of more than {found.rows:,} training rows" in said


def test_a_question_that_cannot_be_answered_ends_with_its_reason(tmp_path, monkeypatch, capsys):
    for arguments, reason in (
        (["--requirement", LOSS.id], "no snapshot in"),
        (["--requirement", "booking-steps"], "which no training on rows measures"),
        (["--requirement", LOSS.id, "--snapshot", str(tmp_path / "gone")], "gone"),
    ):
        ended, said = run(arguments, tmp_path, monkeypatch, capsys)
        assert ended == feasible.CANNOT
        assert reason in said
    assert not (tmp_path / "feasible").exists()


def test_a_review_of_nothing_says_so(tmp_path, monkeypatch, capsys):
    ended, said = run(["--review"], tmp_path, monkeypatch, capsys)

    assert ended == 0
    assert "no forecast in" in said
