"""The model card: rendered from manifest and evidence, never typed."""

from __future__ import annotations

import json

from contracts.bundle import Evidence, Manifest, Slice


def card(manifest: Manifest, evidence: Evidence) -> str:
    """Markdown that says what the bundle is for, what it was made of and what was measured."""
    scope, lineage = manifest.scope, manifest.lineage
    gate = [
        f"| {item.requirement} | {item.limit} | {item.measured:.4g} "
        f"| {'passed' if item.passed else 'FAILED'} | {item.note} |"
        for item in evidence.gate
    ]
    slices = [_line("all", evidence.overall), *(_line(name, found) for name, found in evidence.zone_groups.items())]
    return "\n".join(
        [
            *_index(manifest, evidence),
            f"# Bundle {manifest.version}",
            "",
            "Quantiles (p10, p50, p90) of the minutes from booking to delivery of one parcel.",
            "",
            f"- Scope: {len(scope.zones)} zones; {', '.join(scope.vehicles)}; "
            f"{scope.min_distance_km:.2g} to {scope.max_distance_km:.3g} km. Other trips are answered as out of scope.",
            f"- Made from snapshot {lineage.snapshot_digest[:16]}, seed {lineage.seed}, "
            f"code {lineage.code_revision[:12]}"
            + (f", correcting {lineage.parent_version}" if lineage.parent_version else ""),
            f"- Measured on {evidence.test_rows:,} held-out trips, "
            f"{evidence.test_from:%Y-%m-%d} to {evidence.test_to:%Y-%m-%d}.",
            "- Coverage is what was measured, not a guarantee: cities change.",
            "",
            "| trips | rows | pinball loss, min | heuristic's | p90 covers | p10 to p90 covers |",
            "|---|---|---|---|---|---|",
            *slices,
            "",
            "| requirement | limit | measured | verdict | note |",
            "|---|---|---|---|---|",
            *gate,
            "",
        ]
    )


def _index(manifest: Manifest, evidence: Evidence) -> list[str]:
    """The card's metadata as the Hugging Face hub reads it (`model-index`); JSON, which is YAML too."""
    overall = evidence.overall
    metrics = {
        "pinball_min": overall.pinball_min,
        "coverage_p90": overall.coverage_p90,
        "coverage_band": overall.coverage_band,
    }
    result = {
        "task": {"type": "tabular-regression", "name": "quantiles of trip duration"},
        "dataset": {"type": "snapshot", "name": manifest.lineage.snapshot_digest[:16]},
        "metrics": [{"type": name, "value": round(value, 4)} for name, value in metrics.items()],
    }
    index = [{"name": manifest.version, "results": [result]}]
    return ["---", "library_name: onnx", "license: mit", f"model-index: {json.dumps(index)}", "---", ""]


def _line(name: str, found: Slice) -> str:
    return (
        f"| {name} | {found.rows:,} | {found.pinball_min:.3f} | {found.heuristic_pinball_min:.3f} "
        f"| {found.coverage_p90:.3f} | {found.coverage_band:.3f} |"
    )
