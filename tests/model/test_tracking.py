"""What MLflow is told of a training, in figures, words and pictures, and of who serves."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from contracts import requirements
from contracts.bundle import BundleError, Manifest, verify, write_checksums
from model.plots import figures, promise_levels, reliabilities, slices
from model.registry import MODEL_NAME, connect, show_roles
from model.tracking import measured, parameters

RECORD = requirements.load()


def candidate(trained):
    """The candidate that the training told MLflow of."""
    return trained.tell_mlflow.args[2]


@pytest.fixture(scope="module")
def drawn(trained):
    return dict(figures(candidate(trained), trained.release.evidence, RECORD))


def test_every_picture_has_a_title_and_says_what_its_axes_hold(drawn):
    assert set(drawn) == {"loss-curve", "reliability", "slices", "ladder", "promise-levels"}
    for name, figure in drawn.items():
        panels = figure.get_axes()
        assert figure.get_suptitle() or panels[0].get_title(loc="left"), name
        assert all(axes.get_xlabel() for axes in panels), name
    assert drawn["loss-curve"].get_axes()[0].get_ylabel() == "pinball loss, min"


def test_a_correction_has_no_loss_curve(trained):
    corrected = replace(candidate(trained), curve=[])
    assert "loss-curve" not in dict(figures(corrected, trained.release.evidence, RECORD))


def test_reliability_is_measured_by_tenths_and_finds_where_a_level_is_wrong(trained):
    found = reliabilities(candidate(trained))
    assert [len(item.share) for item in found] == [3] * 10
    assert [item.spread for item in found] == sorted(item.spread for item in found)
    assert np.mean([item.share[2] for item in found]) == pytest.approx(0.9, abs=0.03)
    assert all(
        low <= share <= high for item in found for share, (low, high) in zip(item.share, item.bounds, strict=True)
    )

    timid = candidate(trained).quantiles_min * [1, 1, 0.8]
    wrong = reliabilities(replace(candidate(trained), quantiles_min=timid))
    assert np.mean([item.share[2] for item in wrong]) < 0.8


def test_the_limits_drawn_are_those_of_the_record(trained):
    evidence, limit = trained.release.evidence, RECORD["late-promises"]

    def drawn_at(ceiling: float) -> bool:
        (axes,) = promise_levels(evidence.promise_levels, limit.model_copy(update={"at_most": ceiling})).get_axes()
        return any(list(line.get_ydata()) == [ceiling, ceiling] for line in axes.get_lines())

    assert drawn_at(limit.ceiling)
    assert drawn_at(0.3)
    panels = slices(evidence, RECORD).get_axes()
    for axes, name in zip(panels, ("coverage-p90", "coverage-band"), strict=True):
        (band,) = [patch for patch in axes.patches if name in str(patch.get_label())]
        assert band.get_x() == pytest.approx(RECORD[name].floor)
        assert band.get_x() + band.get_width() == pytest.approx(RECORD[name].ceiling)


def test_every_slice_has_its_line(trained, drawn):
    evidence = trained.release.evidence
    names = [label.get_text() for label in drawn["slices"].get_axes()[0].get_yticklabels()]
    assert len(names) == 1 + len(evidence.zone_groups) + sum(map(len, evidence.slices.values()))
    assert f"zone group: Mills  ({evidence.zone_groups['Mills'].rows:,})" in names


def test_parameters_are_enough_to_find_and_repeat_a_training(trained):
    manifest = trained.release.manifest
    told = parameters(manifest, trained.snapshot, candidate(trained))
    assert told["snapshot"] == trained.snapshot.made.digest
    assert told["seed"] == "1"
    assert told["rows"] == str(trained.snapshot.made.rows)
    assert told["code_revision"] == manifest.lineage.code_revision
    assert told["contract_fingerprint"] == manifest.contract_fingerprint
    assert told["library.torch"] == manifest.lineage.libraries["torch"]
    assert told["threads"] == str(trained.settings.model_threads)


def test_figures_bear_any_name_of_a_rival(trained):
    odd = trained.release.evidence.model_copy(update={"ladder": {"zone pair / hour (new)": 1.5}})
    assert measured(odd)["ladder_min/zone pair - hour -new-"] == 1.5


@pytest.mark.slow
def test_a_failing_mlflow_is_reported_and_loses_nothing(trained, caplog):
    tell = trained.tell_mlflow
    type(tell)(tell.func, "sqlite:////proc/nowhere/mlflow.db", *tell.args[1:], **tell.keywords)()

    assert "the bundle itself is safe" in caplog.text
    verify(trained.folder)


@pytest.fixture(scope="module")
def told(trained):
    """MLflow once it has been told of the training."""
    trained.tell_mlflow()
    return connect(trained.settings.mlflow_uri)


@pytest.mark.slow
def test_mlflow_records_the_run_and_registers_the_version(trained, told):
    newest = told.get_model_version_by_alias(MODEL_NAME, "newest")
    run = told.get_run(newest.run_id)

    assert newest.tags["bundle"] == trained.release.version
    assert run.info.status == "FINISHED"
    assert run.data.metrics["pinball_min"] == pytest.approx(trained.release.evidence.overall.pinball_min)
    assert run.data.params["snapshot"] == trained.snapshot.made.digest
    assert len(told.get_metric_history(newest.run_id, "training_loss_min")) > 5
    files = {item.path for folder in ("bundle", "plots") for item in told.list_artifacts(newest.run_id, folder)}
    assert {"bundle/model.onnx", "bundle/evidence.json", "bundle/card.md"} <= files
    assert {"plots/loss-curve.png", "plots/reliability.png", "plots/slices.png", "plots/ladder.png"} <= files


@pytest.mark.slow
def test_a_candidate_that_the_gate_refused_is_a_failed_run_without_a_version(trained, told, tmp_path):
    tell, folder = trained.tell_mlflow, tmp_path / "candidates" / "v9-refused"
    shutil.copytree(trained.folder, folder)
    before = len(told.search_model_versions(f"name = '{MODEL_NAME}'"))
    type(tell)(tell.func, *tell.args[:-1], folder, **tell.keywords | {"released": False})()

    experiment = told.get_experiment_by_name(MODEL_NAME)
    (run,) = told.search_runs([experiment.experiment_id], "attributes.run_name = 'v9-refused'")
    assert run.info.status == "FAILED"
    assert len(told.search_model_versions(f"name = '{MODEL_NAME}'")) == before


def aliases(client) -> dict[str, str]:
    """By alias the bundle that it names."""
    (model,) = client.search_registered_models(f"name = '{MODEL_NAME}'")
    return {name: client.get_model_version(MODEL_NAME, number).tags["bundle"] for name, number in model.aliases.items()}


@pytest.mark.slow
def test_aliases_follow_who_serves_and_doing_it_again_changes_nothing(trained, told, tmp_path):
    first = trained.release.version
    second = f"v2-{first.partition('-')[2]}"
    bundles = tmp_path / "bundles"
    shutil.copytree(trained.folder, bundles / first)
    manifest = trained.release.manifest.model_copy(update={"version": second})
    another = sealed_as(bundles, first, manifest)

    show_roles(told, {"champion": first, "challenger": None}, bundles)
    assert aliases(told) == {"newest": first, "champion": first}
    for _ in range(2):
        show_roles(told, {"champion": first, "challenger": second}, bundles)  # MLflow never heard of it
        assert aliases(told) == {"newest": first, "champion": first, "challenger": second}
    assert len(told.search_model_versions(f"tag.bundle = '{second}'")) == 1
    show_roles(told, {"champion": second, "challenger": None}, bundles)
    assert aliases(told) == {"newest": first, "champion": second}

    (another / "model.onnx").write_bytes(b"cut")
    third = another.rename(bundles / "v3-spoilt")
    with pytest.raises(BundleError, match="v3-spoilt"):
        show_roles(told, {"champion": third.name, "challenger": None}, bundles)
    assert aliases(told)["champion"] == second


def sealed_as(bundles: Path, name: str, manifest: Manifest) -> Path:
    """A copy of a bundle under another version, sealed."""
    folder = shutil.copytree(bundles / name, bundles / manifest.version)
    (folder / "bundle.json").write_text(manifest.model_dump_json())
    write_checksums(folder)
    return folder
