"""The record in other tools' words:  python -m deploy.exports [FOLDER]   (default reports/exports)

An MLTE negotiation card and evidence (schemas of MLTE 2.7), and a Backstage catalogue.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

from contracts.feeds import FEED_OWNERS, FeedName
from contracts.measurements import Measurement, kept
from contracts.problems import plain_words
from contracts.requirements import FOLDERS, Requirement, Requirements, load
from contracts.trips import LEVELS, MODEL_INPUTS, CompletedTrip, Team, columns
from deploy.settings import DeploySettings

Json = dict[str, Any]
TEAMS = tuple(team for team in get_args(Team) if team not in FOLDERS)  # those whose folder is a service's


def negotiation_card(record: Requirements) -> Json:
    """MLTE's card: what the system is for, the trip's fields, the model's signature, each requirement as a scenario."""
    promised = [item for item in record.all() if item.owner == "product"]
    return {
        "artifact_type": "card",
        "system": {
            "goals": [
                {
                    "description": item.statement,
                    "metrics": [{"description": f"{item.metric} ({item.unit})", "baseline": item.limit}],
                }
                for item in promised
            ],
            "problem_type": "regression",
            "task": "quantiles of a parcel trip's duration, from which an arrival time is promised",
            "usage_context": "couriers in one city; the product sells without the model as well",
            "risks": [item.reason for item in promised],
        },
        "data": [
            {
                "description": "completed trips",
                "purpose": "training and evaluation",
                "source": "the trips feed of product",
                "labels": [{"name": "duration_min", "description": columns(CompletedTrip)["duration_min"].meaning}],
                "fields": [
                    {
                        "name": name,
                        "description": f"{column.meaning} ({column.unit})",
                        "missing_values": column.missing,
                    }
                    for name, column in columns(CompletedTrip).items()
                ],
            }
        ],
        "model": {
            "deployment_platform": "onnxruntime on a CPU, behind HTTP",
            "capability_deployment_mechanism": "POST /v1/estimates",
            "input_specification": [{"name": item.name, "type": item.dtype} for item in MODEL_INPUTS],
            "output_specification": [{"name": f"p{level * 100:g}_min", "type": "float32"} for level in LEVELS],
        },
        "system_requirements": [_scenario(item) for item in record.all()],
    }


def _scenario(item: Requirement) -> Json:
    return {
        "identifier": item.id,
        "quality": item.quality,
        "stimulus": item.population,
        "source": item.asked_by,
        "environment": ", ".join(item.checked_by),
        "response": item.statement,
        "measure": f"{item.metric}: {item.limit}",
    }


def evidence(measured: Iterable[Measurement], record: Requirements) -> dict[str, Json]:
    """MLTE evidence by name, one for each verdict that has a value, on a requirement that still exists."""
    known = {item.id for item in record.all()}
    return {
        f"{item.requirement}.{item.check.replace(' ', '-')}": {
            "artifact_type": "evidence",
            "metadata": {
                "test_case_id": item.requirement,
                "measurement": {
                    "measurement_class": item.check,
                    "output_class": "mlte.evidence.types.real.Real",
                    "additional_data": {
                        "verdict": "kept" if item.passed else "missed",
                        "at": item.at.isoformat(),
                        "note": item.note,
                    },
                },
            },
            "evidence_class": "mlte.evidence.types.real.Real",
            "value": {"evidence_type": "real", "real": item.value, "unit": record[item.requirement].unit},
        }
        for item in measured
        if math.isfinite(item.value) and item.requirement in known
    }


def catalogue() -> list[Json]:
    """Backstage entities: a system, a component for each team's part, an API for each feed with its one owner."""
    feeds: Mapping[str, str] = {feed: FEED_OWNERS[feed] for feed in get_args(FeedName)}
    entities = [_entity("System", "tandem", {"owner": "platform"})]
    for team in TEAMS:
        spec = {"type": "service", "lifecycle": "production", "owner": team, "system": "tandem"}
        provides = [f"feed-{feed}" for feed, owner in feeds.items() if owner == team]
        entities.append(_entity("Component", team, spec | {"providesApis": provides}))
    for feed, owner in feeds.items():
        spec = {"type": "http-feed", "lifecycle": "production", "owner": owner, "system": "tandem"}
        entities.append(_entity("API", f"feed-{feed}", spec | {"definition": f"GET /feeds/{feed}"}))
    return entities


def _entity(kind: str, name: str, spec: Json) -> Json:
    charter = {"tandem/charter": f"{name}/README.md"} if kind == "Component" else {}
    return {
        "apiVersion": "backstage.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "annotations": charter},
        "spec": spec,
    }


@plain_words()
def main() -> None:
    """Write every export."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "reports/exports")
    record, settings = load(), DeploySettings()
    folder.mkdir(parents=True, exist_ok=True)
    files = {"negotiation-card.json": json.dumps(negotiation_card(record), indent=1)}
    for name, item in evidence(kept(settings.measured), record).items():
        files[f"evidence-{name}.json"] = json.dumps(item, indent=1)
    # JSON is YAML: documents apart by ---
    files["catalog-info.yaml"] = "\n---\n".join(json.dumps(entity, indent=1) for entity in catalogue()) + "\n"
    for name, text in files.items():
        (folder / name).write_text(text)
    print(f"{len(files)} files in {folder}")


if __name__ == "__main__":
    main()
