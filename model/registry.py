"""MLflow's registry of released bundles: one version for each, and who serves as its aliases.

Nothing here is the record of anything: the bundles feed tells what was released, the rollout feed who serves.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from contracts.bundle import verify

if TYPE_CHECKING:
    from mlflow import MlflowClient

MODEL_NAME = "trip-duration"
BUNDLE = "bundle"  # the tag of a registered version that names its bundle
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}  # nothing leaves this machine


def connect(uri: str) -> MlflowClient:
    """A client of the tracking database at `uri`."""
    os.environ |= QUIET
    import mlflow  # takes seconds to import: only here

    mlflow.set_tracking_uri(uri)
    return mlflow.MlflowClient()


def register(client: MlflowClient, source: str, bundle: str, run_id: str | None = None) -> str:
    """Register a released bundle whose files lie at `source`; answers MLflow's number of the version."""
    if not client.search_registered_models(f"name = '{MODEL_NAME}'"):
        client.create_registered_model(MODEL_NAME)
    made = client.create_model_version(MODEL_NAME, source, run_id, tags={BUNDLE: bundle})
    return str(made.version)


def show_roles(client: MlflowClient, roles: Mapping[str, str | None], bundles: Path) -> None:
    """Let each alias (`champion`, `challenger`) name the version of its bundle, or nothing where it has none.

    Doing it again changes nothing. A bundle that MLflow has never heard of, since it failed or was removed in between,
    is registered from where it lies. Raises `BundleError` where the bundle is not sound.
    """
    for alias, bundle in roles.items():
        if bundle is not None:
            number = _number(client, bundle)
            if number is None:
                verify(bundles / bundle)
                number = register(client, (bundles / bundle).absolute().as_uri(), bundle)
            client.set_registered_model_alias(MODEL_NAME, alias, number)
        elif client.search_registered_models(f"name = '{MODEL_NAME}'"):
            client.delete_registered_model_alias(MODEL_NAME, alias)


def _number(client: MlflowClient, bundle: str) -> str | None:
    """MLflow's number of a bundle's newest version, None where it has none."""
    found = client.search_model_versions(f"name = '{MODEL_NAME}' and tag.{BUNDLE} = '{bundle}'")
    return str(max(found, key=lambda version: int(version.version)).version) if found else None
