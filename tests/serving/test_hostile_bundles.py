"""Bundles made to harm: sealed and released like any other, and refused with the reason while the old one serves on."""

from __future__ import annotations

import gzip
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from threading import enumerate as threads

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from contracts.bundle import write_checksums
from serving.bundles import LARGEST_FILE_BYTES, LONGEST_RUN_S, BundleRefused, load
from serving.watchdog import Watch
from tests.bundles import HIGH, LOW, SOUND_UP_TO_KM, a_trip, make_bundle

LIMIT_S = 0.3


def edited(folder: Path, edit: Callable[[onnx.ModelProto], None]) -> None:
    """Change the graph and seal the bundle again."""
    model = onnx.load(folder / "model.onnx")
    edit(model)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    write_checksums(folder)


def weights_in(location: str) -> Callable[[onnx.ModelProto], None]:
    """The graph's shares shall come from another file."""

    def edit(model: onnx.ModelProto) -> None:
        (shares,) = [item for item in model.graph.initializer if item.name == "shares"]
        shares.ClearField("raw_data")
        shares.data_location = TensorProto.EXTERNAL
        shares.external_data.add(key="location", value=location)

    return edit


def elsewhere(folder: Path) -> Path:
    """A file outside the bundle that holds just the bytes that would make the graph answer right."""
    outside = folder.parent / "outside.bin"
    outside.write_bytes(np.array([[LOW, 1, HIGH]], "<f4").tobytes())
    return outside


def reads_an_absolute_path(root: Path, version: str) -> None:
    folder = make_bundle(root, version)
    edited(folder, weights_in(str(elsewhere(folder))))


def reads_outside_its_folder(root: Path, version: str) -> None:
    folder = make_bundle(root, version)
    edited(folder, weights_in(f"../{elsewhere(folder).name}"))


def brings_an_operator_of_its_own(root: Path, version: str) -> None:
    def edit(model: onnx.ModelProto) -> None:
        model.graph.node[-1].domain = "evil.example"
        model.opset_import.append(helper.make_opsetid("evil.example", 1))

    edited(make_bundle(root, version), edit)


def folds_for_minutes(root: Path, version: str) -> None:
    """Onnxruntime works out constants while it loads, which nothing can stop."""

    def edit(model: onnx.ModelProto) -> None:
        size = helper.make_tensor("size", TensorProto.INT64, [2], [1200, 1200])
        nodes = [helper.make_node("ConstantOfShape", ["size"], ["0"])]
        nodes += [helper.make_node("MatMul", [str(step), str(step)], [str(step + 1)]) for step in range(20)]
        nodes += [
            helper.make_node("ReduceMax", ["20"], ["nothing"], keepdims=0),
            helper.make_node("Add", ["shares", "nothing"], ["heavy_shares"]),
        ]
        model.graph.node[-1].input[1] = "heavy_shares"
        last = model.graph.node.pop()
        model.graph.node.extend([*nodes, last])
        model.graph.initializer.append(size)

    edited(make_bundle(root, version), edit)


def never_ends(root: Path, version: str) -> None:
    folder = make_bundle(root, version, misbehaves="hangs")
    golden = json.loads((folder / "golden.json").read_text())
    golden[0]["trip"]["distance_km"] = SOUND_UP_TO_KM + 1
    (folder / "golden.json").write_text(json.dumps(golden))
    write_checksums(folder)


def is_a_bomb(root: Path, version: str) -> None:
    folder = make_bundle(root, version)
    (folder / "model.onnx").write_bytes(gzip.compress(bytes(LARGEST_FILE_BYTES)))
    write_checksums(folder)


def is_cut_and_sealed_again(root: Path, version: str) -> None:
    folder = make_bundle(root, version)
    graph = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(graph[: len(graph) // 2])
    write_checksums(folder)


def has_a_huge_file(root: Path, version: str) -> None:
    os.truncate(make_bundle(root, version) / "model.onnx", 2**40)  # a hole: it takes no room until it is read


def has_a_pipe(root: Path, version: str) -> None:
    folder = make_bundle(root, version)
    (folder / "card.md").unlink()
    os.mkfifo(folder / "card.md")  # who opens it waits for ever


def has_a_name_of_any_bytes(root: Path, version: str) -> None:
    folder = make_bundle(root, version)
    os.mkdir(os.fsencode(folder) + b"/\xff")


HOSTILE = [
    (reads_an_absolute_path, "graph", "External data path"),
    (reads_outside_its_folder, "graph", "escapes model directory"),
    (brings_an_operator_of_its_own, "graph", "evil.example"),
    (folds_for_minutes, "graph", f"no answer within {LIMIT_S} s"),
    (never_ends, "golden", f"no answer within {LIMIT_S} s"),
    (is_a_bomb, "graph", "Protobuf parsing failed"),
    (is_cut_and_sealed_again, "graph", "Protobuf parsing failed"),
    (has_a_huge_file, "seal", "model.onnx is no plain file of at most"),
    (has_a_pipe, "seal", "card.md is no plain file"),
    (has_a_name_of_any_bytes, "seal", "\\udcff is no plain file"),
]


@pytest.mark.parametrize(("made", "stage", "says"), HOSTILE, ids=[made.__name__ for made, _, _ in HOSTILE])
def test_a_hostile_bundle_is_refused_in_time_with_the_reason(tmp_path, made, stage, says):
    made(tmp_path, "2")
    began = time.monotonic()
    with pytest.raises(BundleRefused) as caught:
        load(tmp_path, "2", None, Watch(), LIMIT_S)
    assert (caught.value.stage, says in str(caught.value)) == (stage, True), str(caught.value)
    assert time.monotonic() - began < LIMIT_S + 2


def test_a_graph_that_never_ends_leaves_no_thread_behind(tmp_path):
    never_ends(tmp_path, "2")
    before = set(threads())
    with pytest.raises(BundleRefused):
        load(tmp_path, "2", None, Watch(), LIMIT_S)
    patience = time.monotonic() + 5
    while left := [thread.name for thread in set(threads()) - before]:
        assert time.monotonic() < patience, f"{left} go on"
        time.sleep(0.02)


@pytest.mark.slow
def test_the_old_bundle_serves_on_while_hostile_ones_are_looked_at(place, champion):
    hostile = [
        it for it in HOSTILE if it[0] is not folds_for_minutes
    ]  # a quick machine is done with it in five seconds
    expected = {}
    for number, (made, stage, says) in enumerate(hostile):
        version = f"bad-{number}"
        made(place.bundles, version)
        place.upstream.release(place.bundles / version)
        expected[version] = (stage, says.replace(f"{LIMIT_S} s", f"{LONGEST_RUN_S:g} s"))

    def rejected() -> dict[str, str]:
        told = [event["data"] for event in champion.feed("rollout") if event["type"] == "bundle.rejected"]
        return {it["version"]: it["reason"] for it in told}

    slowest_s, asked = 0.0, 0
    patience = time.monotonic() + 60
    while len(rejected()) < len(hostile):
        assert time.monotonic() < patience, rejected()
        answer = champion.estimate(a_trip(f"trip-{asked}"))
        assert (answer.status_code, answer.json()["estimates"][0]["bundle_version"]) == (200, "1")
        slowest_s, asked = max(slowest_s, answer.elapsed.total_seconds()), asked + 1
        time.sleep(0.02)
    for version, (stage, says) in expected.items():
        assert f"{version}, {stage}: " in rejected()[version]
        assert says in rejected()[version]
    assert (champion.rollout()["champion"], champion.rollout()["challenger"]) == ("1", None)
    assert asked > 3
    assert slowest_s < LONGEST_RUN_S / 2  # nobody waited until the endless one was stopped
