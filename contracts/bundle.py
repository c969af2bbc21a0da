"""A bundle: a sealed model version, what it holds and how anyone checks it.

A bundle lies at `<bundles>/<version>/`: `model.onnx`, `bundle.json` (`Manifest`), `evidence.json` (`Evidence`),
`golden.json` (a list of `GoldenTrip`), `card.md` and `SHA256SUMS` over all of them. It appears by one rename and never
changes; anything else in that place is refused.

The graph in `model.onnx` takes `contracts.trips.MODEL_INPUTS`, each of shape (batch,), and answers one output
`quantiles_min`, float32 of shape (batch, 3): p10, p50, p90 in minutes. Its metadata map carries `contract_fingerprint`.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, ValidationError

from contracts.estimates import Quantiles
from contracts.problems import TandemError
from contracts.trips import Instant, TripRequest, Vehicle, Wire, fingerprint, minute_of_week

FILES = ("model.onnx", "bundle.json", "evidence.json", "golden.json", "card.md")
CHECKSUMS = "SHA256SUMS"
OUTPUT = "quantiles_min"
FINGERPRINT_KEY = "contract_fingerprint"
GOLDEN_TOLERANCE_MIN = 0.01
REBUILD_TOLERANCE = 0.03  # of the golden trips' quantiles, in the mean: what a bundle rebuilt elsewhere may differ by


class BundleError(TandemError):
    """The bundle must not serve; the text names the file and what is wrong with it."""


class Scope(Wire):
    """The target domain: trips outside it are answered as out of scope, with the reason. `hours` are the hours of the
    week (0 is Monday 00:00-00:59 on the city's wall clock) in which the model has seen a trip; None means all."""

    zones: list[int]
    vehicles: list[Vehicle]
    min_distance_km: float
    max_distance_km: float
    hours: list[int] | None = None

    def reason_outside(self, trip: TripRequest, zone: ZoneInfo) -> str | None:
        """Why the model must not answer for this trip, or None when it may. `zone` is the city's time zone."""
        if trip.pickup_zone not in self.zones:
            return f"pickup_zone {trip.pickup_zone} is not among the {len(self.zones)} zones the model has seen"
        if trip.dropoff_zone not in self.zones:
            return f"dropoff_zone {trip.dropoff_zone} is not among the {len(self.zones)} zones the model has seen"
        if trip.vehicle not in self.vehicles:
            return f"vehicle {trip.vehicle} was not in the training data"
        if not self.min_distance_km <= trip.distance_km <= self.max_distance_km:
            return (
                f"distance_km {trip.distance_km} lies outside the trained {self.min_distance_km:g} to "
                f"{self.max_distance_km:g} km"
            )
        if self.hours is not None and (hour := minute_of_week(trip.requested_at, zone) // 60) not in self.hours:
            return f"requested_at {trip.requested_at.isoformat()} is in hour {hour} of the week, never seen in training"
        return None


class Lineage(Wire):
    """Where a bundle comes from: enough to build it again (`make rebuild`).

    The training was given `champion_version` and told of the change at `change_at`; `parent_version` is the champion
    that it corrected, where it did not train afresh. Equal `libraries`, `machine` (system, processor, what computes),
    `device` and numbers of `processes` and of `threads` in each give equal bytes.
    """

    code_revision: str
    snapshot_digest: str
    seed: int
    parent_version: str | None = None
    decision_id: str | None = None
    libraries: dict[str, str]
    champion_version: str | None = None
    change_at: Instant | None = None
    machine: str | None = None
    device: Literal["cpu", "cuda"] = "cpu"
    processes: int = 1
    threads: int | None = None


class Manifest(Wire):
    """`bundle.json`. `miss_reference[h]` is the share of trips above p90 and below p10 expected in hour h of the week
    (0 is Monday 00:00-00:59), measured on held-out trips and shrunk to the overall share: monitors judge against it.
    `typical` is the trip against which explanations tell what adds or saves minutes."""

    version: str
    contract_fingerprint: str
    time_zone: str
    scope: Scope
    lineage: Lineage
    trained_at: Instant
    above_p90_reference: Annotated[list[float], Field(min_length=168, max_length=168)]
    below_p10_reference: Annotated[list[float], Field(min_length=168, max_length=168)]
    typical: TripRequest | None = None


class GoldenTrip(Wire):
    """A trip and the quantiles recorded for it: serving must get the same within `GOLDEN_TOLERANCE_MIN` minutes."""

    trip: TripRequest
    quantiles: Quantiles


Bounds = tuple[float, float]  # a 95% confidence interval


class Slice(Wire):
    """Measured results on some held-out trips. Loss is pinball loss in minutes, mean over the three levels. `bounds`
    holds the 95% interval of each metric that has one, `pinball_ratio` (to the heuristic's loss) among them; those of
    zone groups hold for all groups at once."""

    rows: int
    pinball_min: float
    heuristic_pinball_min: float
    coverage_p90: float
    coverage_band: float
    mean_p50_min: float
    bounds: dict[str, Bounds] = {}


class Behaviour(Wire):
    """One behaviour test: what was changed in held-out trips, what the answers must do, and what they did.

    `invariance`: nothing may move; `direction`: minutes must rise; `minimum function`: trips that any model must get
    right. `lever` marks an invariance's partner: a change that must move answers, else the test perturbs nothing.
    """

    name: str
    kind: Literal["invariance", "lever", "direction", "minimum function"]
    expected: str
    measured: float
    passed: bool


class Runtime(Wire):
    """The bundle in serving's runtime, in a process of its own: median microseconds of one trip and of 256, and what
    loading the graph added to the process's memory."""

    one_trip_us: float
    batch_us: float
    memory_mb: float


class PromiseLevel(Wire):
    """What promising `p50 * (p90 / p50) ** stretch` would have meant on the held-out trips."""

    stretch: float
    promised_min: float
    late_share: float


class DataSheet(Wire):
    """What the snapshot held that a bundle was trained on. `zone_groups` counts delivered trips by the pickup's zone
    group, `missing_share` is by request column that may be missing, of delivered trips."""

    source: Literal["city", "tlc"]
    rows: int
    rows_quarantined: int | None = None
    delivered: int
    first_requested_at: Instant
    last_requested_at: Instant
    zone_groups: dict[str, int]
    missing_share: dict[str, float]


class GateResult(Wire):
    """One line of the gate: a requirement held against what was measured."""

    requirement: str
    limit: str
    measured: float
    passed: bool
    note: str = ""


class Evidence(Wire):
    """`evidence.json`: what was measured of a bundle, on which rows, and the gate's verdicts.

    Intervals are bootstrapped over `blocks` of time, each a `block`: trips of one day share jams and weather. `slices`
    holds results by vehicle, hour band, weather and distance band; `ladder` the pinball loss in minutes of each model
    on the same trips; `noisy_distance_ratio` the loss with distances off by a tenth over the loss without; `data_sheet`
    tells of all rows, those it learnt from and those held out.
    """

    test_rows: int
    test_from: Instant
    test_to: Instant
    overall: Slice
    zone_groups: dict[str, Slice]
    training_s: float
    bundle_bytes: int
    onnx_matches_torch_min: float
    block: Literal["day", "hour"] = "day"
    blocks: int = 0
    slices: dict[str, dict[str, Slice]] = {}
    ladder: dict[str, float] = {}
    behaviour: list[Behaviour] = []
    noisy_distance_ratio: float | None = None
    runtime: Runtime | None = None
    promise_levels: list[PromiseLevel] = []
    data_sheet: DataSheet | None = None
    gate: list[GateResult]


class BundleReleased(Wire):
    """Feed `bundles`, type `bundle.released`. `checksums_sha256` is the digest of the bundle's SHA256SUMS file."""

    version: str
    checksums_sha256: str
    decision_id: str | None
    manifest: Manifest
    evidence: Evidence


class BundleRefused(Wire):
    """Feed `bundles`, type `bundle.refused`: a retraining that ended without a bundle, with the reasons."""

    decision_id: str | None
    reasons: list[str]
    gate: list[GateResult] = []


def digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_checksums(folder: Path) -> str:
    """Seal a bundle's folder: write SHA256SUMS over its files and answer that file's own digest."""
    sums = "".join(f"{digest(folder / name)}  {name}\n" for name in FILES)
    (folder / CHECKSUMS).write_text(sums)
    return digest(folder / CHECKSUMS)


def verify(folder: Path, checksums_sha256: str | None = None) -> Manifest:
    """Check a bundle's files, names and contract; answer its manifest.

    `checksums_sha256` is the digest the bundle was released under, where the caller knows it. Raises `BundleError`.
    """
    sums = folder / CHECKSUMS
    if not sums.is_file():
        raise BundleError(f"{folder.name}: no {CHECKSUMS}; not a bundle, or only half of one: release it again")
    if checksums_sha256 is not None and digest(sums) != checksums_sha256:
        raise BundleError(f"{folder.name}: {CHECKSUMS} is not the one released: restore the bundle or release anew")
    lines = [line.partition("  ") for line in sums.read_text().splitlines()]
    listed = {name: digest_listed for digest_listed, _, name in lines}
    present = {path.name for path in folder.iterdir()} - {CHECKSUMS}
    if set(listed) != set(FILES) or present != set(FILES):
        raise BundleError(f"{folder.name}: holds {sorted(present)}, lists {sorted(listed)}; expected {sorted(FILES)}")
    for name in FILES:
        if digest(folder / name) != listed[name]:
            raise BundleError(f"{folder.name}/{name}: checksum differs from {CHECKSUMS}: the file was changed or cut")
    try:
        manifest = Manifest.model_validate_json((folder / "bundle.json").read_bytes())
    except ValidationError as error:
        raise BundleError(
            f"{folder.name}/bundle.json: {error.errors()[0]['msg']}: not made for this contract"
        ) from error
    if manifest.version != folder.name:
        raise BundleError(f"{folder.name}: its manifest says version {manifest.version}: it was moved or renamed")
    if manifest.contract_fingerprint != fingerprint():
        raise BundleError(
            f"{folder.name}: contract fingerprint {manifest.contract_fingerprint[:12]}, ours is {fingerprint()[:12]}: "
            "retrain under this contract"
        )
    return manifest
