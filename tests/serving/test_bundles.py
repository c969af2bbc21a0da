"""Which bundles may serve, and what one answers."""

from __future__ import annotations

import json
import math
import shutil
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from pydantic import ValidationError

from contracts.bundle import CHECKSUMS, digest, write_checksums
from contracts.estimates import Quantiles
from contracts.trips import VEHICLES
from serving.bundles import Batch, BundleRefused, LoadedBundle, _sound, load
from serving.watchdog import Watch
from tests.bundles import SOUND_UP_TO_KM, a_trip, make_bundle, quantiles_of


def refused(root, version="1", checksums=None) -> BundleRefused:
    with pytest.raises(BundleRefused) as caught:
        load(root, version, checksums, Watch())
    return caught.value


def test_a_sound_bundle_answers_as_its_golden_trips_say(tmp_path):
    folder = make_bundle(tmp_path, "1", minutes_per_km=3.0)
    bundle = load(tmp_path, "1", digest(folder / CHECKSUMS), Watch())

    said = bundle.answer(Batch([a_trip("a", distance_km=2.0), a_trip("b", distance_km=7.5)]))

    assert [words.status for words in said] == ["estimated", "estimated"]
    for words, distance in zip(said, (2.0, 7.5), strict=True):
        expected = quantiles_of(distance, 3.0)
        assert words.minutes[2] == pytest.approx(expected.p90_min, abs=0.001)
        assert words.minutes[0] == pytest.approx(expected.p10_min, abs=0.001)


def test_a_graph_that_hangs_is_stopped_and_answers_the_next_trip(tmp_path):
    make_bundle(tmp_path, "1", misbehaves="hangs")
    bundle = load(tmp_path, "1", None, Watch())

    (said,) = bundle.answer(Batch([a_trip(distance_km=SOUND_UP_TO_KM + 1)]), limit_s=0.1)

    assert (said.status, said.reason) == ("misbehaved", "the graph gave no answer within 0.1 s")
    assert bundle.answer(Batch([a_trip()]), limit_s=0.1)[0].status == "estimated"


def test_missing_values_reach_the_graph_as_nan_and_the_minute_of_week_on_the_citys_clock(tmp_path):
    make_bundle(tmp_path, "1")
    bundle = load(tmp_path, "1", None, Watch())
    fed = {}

    class Session:
        def run(self, _outputs, feed, _options):
            fed.update(feed)
            return [np.ones((1, 3), np.float32)]

    bundle = LoadedBundle(bundle.manifest, bundle.seal, Session(), Watch())
    bundle.minutes(Batch([a_trip(requested_at="2026-06-01T07:00:00Z", rain_mm_h=1.5)]))

    assert fed["minute_of_week"].tolist() == [9 * 60]
    assert math.isnan(fed["parcel_kg"][0])
    assert fed["rain_mm_h"].tolist() == [1.5]


def test_out_of_scope_trips_never_reach_the_graph_and_leave_the_others_in_place(tmp_path):
    make_bundle(tmp_path, "1")
    bundle = load(tmp_path, "1", None, Watch())

    said = bundle.answer(
        Batch([a_trip("far", pickup_zone=900, distance_km=9.0), a_trip("near"), a_trip("long", distance_km=150)])
    )

    assert [words.status for words in said] == ["out_of_scope", "estimated", "out_of_scope"]
    assert said[1].minutes[1] == pytest.approx(quantiles_of(3.0).p50_min, abs=0.001)
    assert "pickup_zone 900" in said[0].reason
    assert "distance_km 150" in said[2].reason
    assert [words.status for words in bundle.answer(Batch([a_trip(pickup_zone=900)]))] == ["out_of_scope"]


@pytest.mark.parametrize(("fault", "says"), [("nan", "nan"), ("crossing", "cross"), ("throws", "InvalidArgument")])
def test_an_unsound_answer_is_a_reason_and_never_quantiles(tmp_path, fault, says):
    make_bundle(tmp_path, "1", misbehaves=fault)
    bundle = load(tmp_path, "1", None, Watch())

    assert bundle.answer(Batch([a_trip(distance_km=SOUND_UP_TO_KM - 1)]))[0].status == "estimated"
    (said,) = bundle.answer(Batch([a_trip(distance_km=SOUND_UP_TO_KM + 1)]))
    assert (said.status, said.minutes) == ("misbehaved", None)
    assert says in said.reason


@pytest.mark.parametrize(
    ("how", "stage", "says"),
    [
        ({"input_name": "miles"}, "signature", "miles"),
        ({"output_name": "minutes"}, "signature", "minutes"),
        ({"graph_fingerprint": "ab" * 32}, "signature", "abababababab"),
        ({"manifest_fingerprint": "cd" * 32}, "seal", "cdcdcdcdcdcd"),
        ({"golden_off_min": 0.5}, "golden", "off its golden trips by 0.500"),
    ],
)
def test_a_sealed_bundle_that_does_not_keep_the_contract_is_refused(tmp_path, how, stage, says):
    make_bundle(tmp_path, "1", **how)
    error = refused(tmp_path)
    assert (error.stage, says in str(error)) == (stage, True), str(error)


def rewrite(folder, name, text):
    (folder / name).write_text(text)
    write_checksums(folder)


def test_a_cut_graph_is_refused(tmp_path):
    folder = make_bundle(tmp_path, "1")
    graph = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(graph[: len(graph) // 2])
    assert "model.onnx: checksum differs" in str(refused(tmp_path))


def test_a_graph_that_is_none_is_refused_even_when_sealed(tmp_path):
    folder = make_bundle(tmp_path, "1")
    rewrite(folder, "model.onnx", "not a graph")
    assert refused(tmp_path).stage == "graph"


@pytest.mark.parametrize(("golden", "says"), [("[]", "no golden trips"), ('[{"trip": 1}]', "trip")])
def test_golden_trips_that_show_nothing_are_refused(tmp_path, golden, says):
    rewrite(make_bundle(tmp_path, "1"), "golden.json", golden)
    error = refused(tmp_path)
    assert (error.stage, says in str(error)) == ("golden", True), str(error)


def test_a_bundle_that_throws_on_its_golden_trips_is_refused(tmp_path):
    folder = make_bundle(tmp_path, "1", misbehaves="throws")
    golden = json.loads((folder / "golden.json").read_text())
    golden[0]["trip"]["distance_km"] = SOUND_UP_TO_KM + 1
    rewrite(folder, "golden.json", json.dumps(golden))
    assert "INVALID_ARGUMENT" in str(refused(tmp_path))


def test_nan_on_a_golden_trip_is_refused(tmp_path):
    folder = make_bundle(tmp_path, "1", misbehaves="nan")
    golden = json.loads((folder / "golden.json").read_text())
    golden[0]["trip"]["distance_km"] = SOUND_UP_TO_KM + 1
    rewrite(folder, "golden.json", json.dumps(golden))
    assert "off its golden trips by nan" in str(refused(tmp_path))


def test_an_unknown_time_zone_is_refused(tmp_path):
    folder = make_bundle(tmp_path, "1")
    manifest = json.loads((folder / "bundle.json").read_text()) | {"time_zone": "Mars/Olympus"}
    rewrite(folder, "bundle.json", json.dumps(manifest))
    assert "Mars/Olympus" in str(refused(tmp_path))


def test_half_a_bundle_a_missing_one_and_one_under_another_name_are_refused(tmp_path):
    folder = make_bundle(tmp_path, "1")
    shutil.copytree(folder, tmp_path / "2")
    (folder / CHECKSUMS).unlink()
    assert "only half of one" in str(refused(tmp_path))
    assert "moved or renamed" in str(refused(tmp_path, "2"))
    assert "not a bundle" in str(refused(tmp_path, "3"))


def test_a_whole_other_bundle_in_its_place_is_refused(tmp_path):
    seal = digest(make_bundle(tmp_path, "1") / CHECKSUMS)
    shutil.rmtree(tmp_path / "1")
    make_bundle(tmp_path, "1", minutes_per_km=9.0)
    assert "not the one released" in str(refused(tmp_path, checksums=seal))


@pytest.mark.parametrize("version", ["../outside", ".", "", "a/b", "x" * 65])
def test_a_version_cannot_lead_out_of_the_bundles_folder(tmp_path, version):
    make_bundle(tmp_path, "outside")
    assert "not a bundle version" in str(refused(tmp_path / "bundles", version))


MONDAY = datetime(2026, 6, 1, tzinfo=UTC)
KILOMETRES = some.one_of(some.floats(0.05, 200), some.sampled_from([0.1, 100.0]))
SCOPED = some.builds(
    a_trip,
    pickup_zone=some.integers(1, 60),
    dropoff_zone=some.integers(1, 60),
    distance_km=KILOMETRES,
    vehicle=some.sampled_from(VEHICLES),
    requested_at=some.integers(0, 7 * 1440).map(lambda minutes: MONDAY + timedelta(minutes=minutes)),
)


@pytest.fixture(scope="module")
def scoped(tmp_path_factory) -> LoadedBundle:
    """A bundle that knows some zones, vehicles and hours."""
    folder = tmp_path_factory.mktemp("bundles")
    make_bundle(folder, "1", zones=range(1, 40), hours=[*range(12, 160)])
    made = load(folder, "1", None, Watch())
    scope = made.scope.model_copy(update={"vehicles": ["bike", "van"], "min_distance_km": 0.1})
    return LoadedBundle(made.manifest.model_copy(update={"scope": scope}), made.seal, made.graph.session, Watch())


@given(some.lists(SCOPED, min_size=1, max_size=5))
def test_just_the_trips_that_the_scope_refuses_get_its_reason(scoped, trips):
    reasons = [scoped.scope.reason_outside(trip, scoped.zone) for trip in trips]
    said = scoped.answer(Batch(trips))
    assert [words.reason for words in said] == reasons
    assert [words.minutes is None for words in said] == [reason is not None for reason in reasons]


@given(some.tuples(*[some.one_of(some.floats(width=32), some.sampled_from([0.0, 2880.0, 5.0]))] * 3))
def test_what_passes_for_sound_is_what_the_contract_takes(minutes):
    try:
        Quantiles(**dict(zip(("p10_min", "p50_min", "p90_min"), minutes, strict=True)))
        sound = True
    except ValidationError:
        sound = False
    assert (_sound(*minutes).status == "estimated") == sound
