"""The card tells what was measured and what was learnt from, and nobody edits it by hand."""

from __future__ import annotations

import shutil

import polars as pl
import pytest
import yaml

from contracts.bundle import BundleError, Evidence, verify, write_checksums
from contracts.trips import NOT_FOR_THE_MODEL
from model.card import card, faults, main


@pytest.fixture
def text(trained):
    return (trained.folder / "card.md").read_text()


@pytest.fixture
def copy(trained, tmp_path):
    """A bundle to spoil."""
    return shutil.copytree(trained.folder, tmp_path / trained.release.version)


def row(text: str, name: str) -> list[str]:
    """The cells of the table's row of that name."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_every_slice_is_told_with_its_interval(trained, text):
    evidence = trained.release.evidence
    assert set(evidence.slices) == {"vehicle", "hour band", "weather", "distance band"}
    slices = {f"{kind}: {name}": found for kind, slices in evidence.slices.items() for name, found in slices.items()}
    slices |= {f"zone group: {name}": found for name, found in evidence.zone_groups.items()} | {"all": evidence.overall}
    for name, found in slices.items():
        low, high = found.bounds["coverage_p90"]
        cells = row(text, name)
        assert cells[1] == f"{found.rows:,}"
        assert cells[2].startswith(f"{found.pinball_min:.3f} (")
        assert cells[4] == f"{found.coverage_p90:.3f} ({low:.3f} to {high:.3f})"
    assert f"{evidence.blocks} blocks of one {evidence.block} each" in text


def test_ladder_behaviour_and_cost_are_told(trained, text):
    evidence = trained.release.evidence
    assert {"heuristic", "candidate"} <= set(evidence.ladder)
    for name, loss in evidence.ladder.items():
        assert row(text, name) == [name, f"{loss:.3f}"]
    assert {item.kind for item in evidence.behaviour} == {"invariance", "lever", "direction", "minimum function"}
    for item in evidence.behaviour:
        assert row(text, item.name)[4] == "passed"
    for item in evidence.gate:
        assert f"| {item.requirement} | {item.limit} | {item.measured:.4g} | passed |" in text
    assert f"{evidence.noisy_distance_ratio:.3f}" in text
    assert f"{evidence.runtime.one_trip_us:.0f} µs for one trip" in text


def test_a_failed_test_and_a_failed_verdict_stand_out(trained):
    evidence = trained.release.evidence
    behaviour = [evidence.behaviour[0].model_copy(update={"passed": False}), *evidence.behaviour[1:]]
    gate = [evidence.gate[0].model_copy(update={"passed": False}), *evidence.gate[1:]]
    said = card(trained.release.manifest, evidence.model_copy(update={"behaviour": behaviour, "gate": gate}))

    assert row(said, behaviour[0].name)[4] == "FAILED"
    assert row(said, gate[0].requirement)[3] == "FAILED"


def test_the_data_sheet_tells_what_was_learnt_from(trained, text):
    delivered = trained.table.filter(pl.col("outcome") == "delivered")
    groups = trained.snapshot.made.zone_groups
    for name in sorted(set(groups.values())):
        zones = [zone for zone, group in groups.items() if group == name]
        count = delivered.filter(pl.col("pickup_zone").is_in(zones)).height
        assert row(text, name) == [name, f"{count:,}", f"{count / delivered.height:.3f}"]
    assert f"{trained.table.height:,} ended trips" in text
    assert trained.snapshot.made.first_requested_at.isoformat(timespec="minutes") in text
    for name in ("parcel_kg", "rain_mm_h", "temperature_c", "city_pace"):
        missing = delivered[name].null_count() / delivered.height
        assert missing > 0
        assert row(text, name)[5] == f"{missing:.3f}"
    assert row(text, "pickup_zone")[4] == "location"
    assert row(text, "distance_km")[2:4] == ["km", "city"]
    (line,) = [line for line in text.splitlines() if line.startswith("It may not see:")]
    assert all(f"`{name}`" in line for name in NOT_FOR_THE_MODEL)
    assert not any(f"| {name} |" in text for name in NOT_FOR_THE_MODEL)


def test_an_older_bundle_without_the_new_evidence_still_has_a_card(trained):
    evidence = trained.release.evidence
    bare = dict.fromkeys(("runtime", "noisy_distance_ratio", "data_sheet"))
    bare |= {"slices": {}, "ladder": {}, "behaviour": [], "overall": evidence.overall.model_copy(update={"bounds": {}})}
    said = card(trained.release.manifest, evidence.model_copy(update=bare))

    assert row(said, "all")[2] == f"{evidence.overall.pinball_min:.3f}"
    assert "Its snapshot was not described." in said


def test_a_correction_does_not_claim_to_be_judged_on_trips_it_has_not_learnt_from(trained, text):
    manifest = trained.release.manifest
    lineage = manifest.lineage.model_copy(update={"parent_version": "v0-before"})
    said = card(manifest.model_copy(update={"lineage": lineage}), trained.release.evidence)

    assert "none of which it" in text
    assert "The newest are held out." in text
    assert "none of which it" not in said
    assert "held out." not in said
    assert "judged by cross-fitting" in said


def test_the_head_is_a_model_index(trained, text):
    head = yaml.safe_load(text.split("---\n")[1])
    (index,) = head["model-index"]
    (result,) = index["results"]
    told = {item["type"]: item["value"] for item in result["metrics"]}

    assert index["name"] == trained.release.version
    assert head["library_name"] == "onnx"
    assert result["dataset"]["name"] == trained.release.manifest.lineage.snapshot_digest[:16]
    assert told["coverage_p90"] == pytest.approx(trained.release.evidence.overall.coverage_p90, abs=1e-4)


def test_an_untouched_card_has_no_fault(trained, capsys):
    assert faults(trained.folder) == []
    assert main([str(trained.folder)]) == 0
    assert capsys.readouterr().err == ""


def flattered(folder):
    """Half the loss, said by hand."""
    text, loss = (folder / "card.md").read_text(), Evidence.model_validate_json((folder / "evidence.json").read_bytes())
    said = f"| {loss.overall.pinball_min:.3f} ("
    assert said in text
    (folder / "card.md").write_text(text.replace(said, f"| {loss.overall.pinball_min / 2:.3f} (", 1))


def test_a_card_edited_by_hand_breaks_the_seal(copy, capsys):
    flattered(copy)

    with pytest.raises(BundleError, match=r"card\.md: checksum differs"):
        verify(copy)
    assert main([str(copy)]) == 1
    assert "checksum differs" in capsys.readouterr().err


def test_an_edited_card_is_found_though_sealed_anew(trained, copy, capsys):
    flattered(copy)
    write_checksums(copy)
    verify(copy)

    gone, come = faults(copy)
    assert gone.startswith("-| all |")
    assert come.startswith("+| all |")
    assert main([str(copy)]) == 1
    assert "never edit it" in capsys.readouterr().err
    with pytest.raises(BundleError, match="not the one released"):  # and by everyone who knows the release
        verify(copy, trained.release.checksums_sha256)


def test_evidence_edited_to_fit_is_found_by_the_card(copy):
    found = Evidence.model_validate_json((copy / "evidence.json").read_bytes())
    better = found.overall.model_copy(update={"pinball_min": found.overall.pinball_min / 2})
    (copy / "evidence.json").write_text(found.model_copy(update={"overall": better}).model_dump_json(indent=1))

    assert len(faults(copy)) >= 2
