"""MLflow: each training as a run, each released bundle as a registered version."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from contracts.bundle import Evidence
from model.candidate import Candidate
from model.snapshot import Snapshot

log = logging.getLogger(__name__)
MODEL_NAME = "trip-duration"


def track(
    uri: str, snapshot: Snapshot, candidate: Candidate, evidence: Evidence, folder: Path, *, released: bool
) -> None:
    """Record a run. A failing MLflow is reported and loses no bundle: the feed, not MLflow, is the record."""
    try:
        _track(uri, snapshot, candidate, evidence, folder, released)
    except Exception:
        log.exception("MLflow at %s did not take the run of %s; the bundle itself is safe", uri, folder.name)


def _track(
    uri: str, snapshot: Snapshot, candidate: Candidate, evidence: Evidence, folder: Path, released: bool
) -> None:
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}  # nothing leaves this machine
    import mlflow  # takes seconds to import: only here

    mlflow.set_tracking_uri(uri)
    client = mlflow.MlflowClient()
    artifacts = folder.parent.parent.absolute() / "mlflow-artifacts"
    experiment = client.get_experiment_by_name(MODEL_NAME)
    number = experiment.experiment_id if experiment else client.create_experiment(MODEL_NAME, artifacts.as_uri())
    run = client.create_run(number, run_name=folder.name)
    overall = evidence.overall
    params = {"snapshot": snapshot.made.digest, "rows": snapshot.made.rows, "how": candidate.how}
    params |= {"decision": snapshot.made.decision_id or "", "parent": candidate.corrects or ""}
    metrics = {"pinball_min": overall.pinball_min, "heuristic_pinball_min": overall.heuristic_pinball_min}
    metrics |= {"coverage_p90": overall.coverage_p90, "coverage_band": overall.coverage_band}
    metrics |= {"training_s": evidence.training_s, "bundle_bytes": evidence.bundle_bytes}
    for name, value in params.items():
        client.log_param(run.info.run_id, name, value)
    for name, value in metrics.items():
        client.log_metric(run.info.run_id, name, value)
    for epoch, loss in enumerate(candidate.curve, start=1):
        client.log_metric(run.info.run_id, "training_loss_min", loss, step=epoch)
    client.log_artifacts(run.info.run_id, str(folder), "bundle")
    client.set_terminated(run.info.run_id, "FINISHED" if released else "FAILED")
    if released:
        if not client.search_registered_models(f"name = '{MODEL_NAME}'"):
            client.create_registered_model(MODEL_NAME)
        source = f"{run.info.artifact_uri}/bundle"
        made = client.create_model_version(MODEL_NAME, source, run.info.run_id, tags={"bundle": folder.name})
        client.set_registered_model_alias(MODEL_NAME, "newest", made.version)
