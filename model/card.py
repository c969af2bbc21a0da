"""The model card and data sheet: rendered from manifest, evidence and contract, never typed.

    python -m model.card var/bundles/v1-...     does its card say just what it would be rendered to?

Its sections are those of "Model Cards for Model Reporting" (Mitchell et al., FAT* 2019); the data sheet's questions are
from "Datasheets for Datasets" (Gebru et al., Communications of the ACM 64(12), 2021).
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from contracts.bundle import Bounds, DataSheet, Evidence, Manifest, Slice, verify
from contracts.problems import TandemError
from contracts.trips import LABEL, NOT_FOR_THE_MODEL, CompletedTrip, columns

SOURCES = {"city": "Tandem's own trips in the reference city", "tlc": "New York's taxi trip records (TLC)"}
SEEN = tuple(name for name in columns(CompletedTrip) if name not in NOT_FOR_THE_MODEL)


def card(manifest: Manifest, evidence: Evidence) -> str:
    """Markdown that says what the bundle is for, what it was made of and what was measured."""
    parts = [
        _index(manifest, evidence),
        _details(manifest),
        _use(manifest),
        _measured(manifest, evidence),
        _gate(evidence),
        _data(manifest, evidence.data_sheet),
        _caveats(),
    ]
    return "\n".join(line for part in parts for line in part)


def faults(folder: Path) -> list[str]:
    """Lines that a bundle's card lacks (`-`) or has too many (`+`), against what its manifest and evidence say."""
    manifest = Manifest.model_validate_json((folder / "bundle.json").read_bytes())
    evidence = Evidence.model_validate_json((folder / "evidence.json").read_bytes())
    meant, said = card(manifest, evidence).splitlines(), (folder / "card.md").read_text().splitlines()
    found = difflib.unified_diff(meant, said, lineterm="", n=0)
    return [line for line in found if line[0] in "+-" and line[:3] not in ("+++", "---")]


def _index(manifest: Manifest, evidence: Evidence) -> Iterator[str]:
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
    yield from ("---", "library_name: onnx", "license: mit", f"model-index: {json.dumps(index)}", "", "---", "")


def _details(manifest: Manifest) -> Iterator[str]:
    lineage = manifest.lineage
    yield from (f"# Bundle {manifest.version}", "")
    yield from ("Quantiles (p10, p50, p90) of the minutes from booking to delivery of one parcel.", "")
    yield from ("## Model details", "")
    yield f"- Owner: the model team. Trained {manifest.trained_at:%Y-%m-%d %H:%M}, city time."
    yield f"- Code {lineage.code_revision}, snapshot {lineage.snapshot_digest[:16]}, seed {lineage.seed};"
    yield f"  contract {manifest.contract_fingerprint[:16]}. `make rebuild BUNDLE={manifest.version}` makes it again."
    yield f"- {_named(lineage.libraries)}; {lineage.machine or 'machine not told'}; threads: {lineage.threads}."
    did = f"corrects {lineage.parent_version}" if lineage.parent_version else "trained afresh"
    why = f" after a change at {lineage.change_at:%Y-%m-%d %H:%M}" if lineage.change_at else ""
    yield f"- Champion then: {lineage.champion_version or 'none'}; this one {did}{why}."
    yield ""


def _use(manifest: Manifest) -> Iterator[str]:
    scope = manifest.scope
    hours = "every hour of the week" if scope.hours is None else f"{len(scope.hours)} of 168 hours of the week"
    yield from ("## Intended use", "")
    yield "- To promise customers an arrival time before they book. Others ask serving, never the file."
    yield f"- Scope: {len(scope.zones)} zones; {', '.join(scope.vehicles)};"
    yield f"  {scope.min_distance_km:.2g} to {scope.max_distance_km:.3g} km; {hours}."
    yield "  Other trips are answered as out of scope, with the reason."
    yield from ("- Not to judge couriers or customers: it knows zones and the planned route, no person.", "")


def _measured(manifest: Manifest, evidence: Evidence) -> Iterator[str]:
    yield from ("## Measured", "")
    days = f"{evidence.test_from:%Y-%m-%d} to {evidence.test_to:%Y-%m-%d}"
    if manifest.lineage.parent_version:
        yield f"On {evidence.test_rows:,} trips since the change, {days}, judged by cross-fitting: each stretch of them"
        yield "by a correction made of the others. The released correction was made of all of them."
    else:
        yield f"On {evidence.test_rows:,} held-out trips, {days}, none of which it learnt from."
    yield "In brackets 95% intervals, those of zone groups for all groups at once, bootstrapped over"
    yield f"{evidence.blocks} blocks of one {evidence.block} each. Days are alike: when tried, they held about nine"
    yield "times in ten, those by the hour less often (docs/decisions/0009)."
    yield ""
    kinds: Iterable[tuple[str, dict[str, Slice]]] = [("zone group", evidence.zone_groups), *evidence.slices.items()]
    rows = [("all", evidence.overall)]
    rows += [(f"{kind}: {name}", found) for kind, slices in kinds for name, found in slices.items()]
    yield from _table(
        ("trips", "rows", "pinball loss, min", "heuristic's", "p90 covers", "p10 to p90 covers"),
        (
            (
                name,
                f"{found.rows:,}",
                _sure(found.pinball_min, found.bounds.get("pinball_min")),
                f"{found.heuristic_pinball_min:.3f}",
                _sure(found.coverage_p90, found.bounds.get("coverage_p90")),
                _sure(found.coverage_band, found.bounds.get("coverage_band")),
            )
            for name, found in rows
        ),
    )
    if evidence.ladder:
        yield from ("### Ladder", "", "Each model on the same held-out trips.", "")
        ladder = sorted(evidence.ladder.items(), key=lambda step: step[1])
        yield from _table(("model", "pinball loss, min"), ((name, f"{loss:.3f}") for name, loss in ladder))
    if evidence.behaviour:
        yield from ("### Behaviour", "")
        yield from _table(
            ("test", "kind", "expected", "measured", "verdict"),
            (
                (item.name, item.kind, item.expected, f"{item.measured:.4g}", _verdict(item.passed))
                for item in evidence.behaviour
            ),
        )
    yield from ("### Robustness and cost", "")
    if evidence.noisy_distance_ratio is not None:
        yield f"- Loss with distances off by a tenth, over the loss without: {evidence.noisy_distance_ratio:.3f}."
    if evidence.runtime is not None:
        runtime = evidence.runtime
        yield f"- In serving's runtime: {runtime.one_trip_us:.0f} µs for one trip, {runtime.batch_us:.0f} µs for 256;"
        yield f"  {runtime.memory_mb:.1f} MB of memory."
    yield f"- Trained in {evidence.training_s:.1f} s; {evidence.bundle_bytes:,} bytes; the graph answers within"
    yield from (f"  {evidence.onnx_matches_torch_min:.2g} min of the trained network.", "")


def _gate(evidence: Evidence) -> Iterator[str]:
    yield from ("## Gate", "")
    yield from _table(
        ("requirement", "limit", "measured", "verdict", "note"),
        (
            (item.requirement, item.limit, f"{item.measured:.4g}", _verdict(item.passed), item.note)
            for item in evidence.gate
        ),
    )


def _data(manifest: Manifest, sheet: DataSheet | None) -> Iterator[str]:
    yield from ("## The data it learnt from", "")
    if sheet is None:
        yield from ("Its snapshot was not described.", "")
        return
    yield f"- Why: to learn how long trips take, from trips that customers booked. Source: {SOURCES[sheet.source]}."
    first, last = (at.isoformat(timespec="minutes") for at in (sheet.first_requested_at, sheet.last_requested_at))
    yield f"- What: {sheet.rows:,} ended trips, asked for from {first} to {last}; {sheet.delivered:,} of them"
    newest = "It was corrected on the newest." if manifest.lineage.parent_version else "The newest are held out."
    yield f"  have the label ({LABEL}). {newest}"
    yield "- How: each row is the request as it was served, with its outcome; rows that break a rule are quarantined by"
    yield "  the data team, none is repaired. A snapshot is named by its content and never changes."
    if sheet.rows_quarantined is not None:
        yield f"- Left out: {sheet.rows_quarantined:,} rows were quarantined until it was cut."
    yield from ("- Kept by: the data team, under its digest.", "")
    yield from _table(
        ("zone group of the pickup", "delivered trips", "share"),
        ((name, f"{count:,}", f"{count / max(sheet.delivered, 1):.3f}") for name, count in sheet.zone_groups.items()),
    )
    known = columns(CompletedTrip)
    yield from _table(
        ("column it saw", "meaning", "unit", "owner", "personal", "missing", "missing when"),
        (
            (
                name,
                known[name].meaning,
                known[name].unit,
                known[name].owner,
                known[name].personal,
                f"{sheet.missing_share[name]:.3f}" if name in sheet.missing_share else "none",
                known[name].missing,
            )
            for name in SEEN
        ),
    )
    yield from (f"It may not see: {', '.join(f'`{name}`' for name in NOT_FOR_THE_MODEL)}.", "")


def _caveats() -> Iterator[str]:
    yield from ("## Caveats", "")
    yield "- Coverage is what was measured, not a guarantee: cities change. Monitoring watches it."
    yield "- Only booked and delivered trips have a label; trips that were cancelled or never booked may differ."
    yield "- Zones and times of single trips tell where people are: the golden trips in this bundle are such trips."
    yield ""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', '/') for cell in row)} |"
    yield ""


def _sure(value: float, bounds: Bounds | None) -> str:
    return f"{value:.3f}" if bounds is None else f"{value:.3f} ({bounds[0]:.3f} to {bounds[1]:.3f})"


def _verdict(passed: bool) -> str:
    return "passed" if passed else "FAILED"


def _named(libraries: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in libraries.items())


def main(arguments: Sequence[str] | None = None) -> int:
    """Check a bundle's seal and card from the command line; exit status 1 when either is at fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, help="folder of the bundle")
    folder = parser.parse_args(arguments).bundle
    try:
        verify(folder)
    except TandemError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    found = faults(folder)
    if found:
        sys.stderr.write(f"{folder.name}/card.md is not what its evidence renders to: restore it, never edit it\n")
        sys.stderr.write("".join(f"{line}\n" for line in found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
