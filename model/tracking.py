"""MLflow: each training as a run with parameters, figures, plots and files, each released bundle as a version."""

from __future__ import annotations

import logging
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from contracts import requirements
from contracts.bundle import Evidence, Manifest
from model.candidate import Candidate
from model.plots import figures
from model.registry import MODEL_NAME, connect, register
from model.snapshot import Snapshot

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)
DOTS_PER_INCH = 110


def track(
    uri: str, snapshot: Snapshot, candidate: Candidate, evidence: Evidence, folder: Path, *, released: bool
) -> None:
    """Record a run. A failing MLflow is reported and loses no bundle: the feed, not MLflow, is the record."""
    try:
        client = connect(uri)
        run_id = _run(client, snapshot, candidate, evidence, folder)
        client.set_terminated(run_id, "FINISHED" if released else "FAILED")
        if released:
            source = f"{client.get_run(run_id).info.artifact_uri}/bundle"
            newest = register(client, source, folder.name, run_id)
            client.set_registered_model_alias(MODEL_NAME, "newest", newest)
    except Exception:
        log.exception("MLflow at %s did not take the run of %s; the bundle itself is safe", uri, folder.name)


def _run(client: MlflowClient, snapshot: Snapshot, candidate: Candidate, evidence: Evidence, folder: Path) -> str:
    from mlflow.entities import Metric, Param, RunTag

    artifacts = folder.parent.parent.absolute() / "mlflow-artifacts"
    experiment = client.get_experiment_by_name(MODEL_NAME)
    number = experiment.experiment_id if experiment else client.create_experiment(MODEL_NAME, artifacts.as_uri())
    run_id = str(client.create_run(number, run_name=folder.name).info.run_id)
    manifest = Manifest.model_validate_json((folder / "bundle.json").read_bytes())
    now = int(folder.stat().st_mtime * 1000)
    curve = [Metric("training_loss_min", loss, now, lap) for lap, loss in enumerate(candidate.curve, start=1)]
    client.log_batch(
        run_id,
        metrics=[*(Metric(name, value, now, 0) for name, value in measured(evidence).items()), *curve],
        params=[Param(name, value) for name, value in parameters(manifest, snapshot, candidate).items()],
        tags=[
            RunTag("mlflow.note.content", f"{candidate.how}. Card: artifact `bundle/card.md`."),
            RunTag("mlflow.source.name", "model.train"),
            RunTag("mlflow.source.git.commit", manifest.lineage.code_revision),
        ],
    )
    client.log_artifacts(run_id, str(folder), "bundle")
    with tempfile.TemporaryDirectory() as drawn:
        for name, figure in figures(candidate, evidence, requirements.load()):
            figure.savefig(Path(drawn) / f"{name}.png", dpi=DOTS_PER_INCH)
        client.log_artifacts(run_id, drawn, "plots")
    return run_id


def parameters(manifest: Manifest, snapshot: Snapshot, candidate: Candidate) -> dict[str, str]:
    """What the training was made from, in words: enough to find or repeat it."""
    lineage = manifest.lineage
    return {
        "how": candidate.how,
        "snapshot": lineage.snapshot_digest,
        "rows": str(snapshot.made.rows),
        "delivered": str(len(snapshot.trips)),
        "seed": str(lineage.seed),
        "threads": str(lineage.threads),
        "code_revision": lineage.code_revision,
        "contract_fingerprint": manifest.contract_fingerprint,
        "machine": lineage.machine or "",
        "decision": lineage.decision_id or "",
        "change_at": lineage.change_at.isoformat() if lineage.change_at else "",
        "champion": lineage.champion_version or "",
        "parent": lineage.parent_version or "",
        **{f"library.{name}": version for name, version in lineage.libraries.items()},
    }


def measured(evidence: Evidence) -> dict[str, float]:
    """The evidence's figures; those of the ladder by model."""
    overall, runtime = evidence.overall, evidence.runtime
    found = {
        "pinball_min": overall.pinball_min,
        "heuristic_pinball_min": overall.heuristic_pinball_min,
        "coverage_p90": overall.coverage_p90,
        "coverage_band": overall.coverage_band,
        "training_s": evidence.training_s,
        "bundle_bytes": evidence.bundle_bytes,
        "gate_failures": sum(not item.passed for item in evidence.gate),
        "behaviour_failures": sum(not item.passed for item in evidence.behaviour),
    }
    found |= {f"ladder_min/{_plain(name)}": loss for name, loss in evidence.ladder.items()}
    if evidence.noisy_distance_ratio is not None:
        found["noisy_distance_ratio"] = evidence.noisy_distance_ratio
    if runtime is not None:
        found |= {"one_trip_us": runtime.one_trip_us, "batch_us": runtime.batch_us, "memory_mb": runtime.memory_mb}
    return found


def _plain(name: str) -> str:
    """A name as MLflow takes it in a metric's: letters, digits, spaces, dots and dashes."""
    return re.sub(r"[^\w .-]", "-", name)
