"""The shelf on which data leaves its snapshots."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from contracts.problems import TandemError
from contracts.snapshots import SnapshotMade
from model.snapshot import UnreadableSnapshot


class NoSnapshot(TandemError):
    """There is no snapshot where one was looked for."""


def newest(snapshots: Path) -> Path:
    """Folder of the snapshot that reaches furthest in time; of several such, the one with most rows. Raises
    `NoSnapshot` or `UnreadableSnapshot`."""
    found = {}
    for file in snapshots.glob("[!.]*/snapshot.json"):  # data makes a snapshot in a folder whose name starts with a dot
        try:
            found[file.parent] = SnapshotMade.model_validate_json(file.read_bytes())
        except ValidationError as error:
            raise UnreadableSnapshot(file.parent, error) from error
    if not found:
        raise NoSnapshot(f"no snapshot in {snapshots}: `make run` makes one of its history, or name one by --snapshot")
    return max(found, key=lambda folder: (found[folder].last_requested_at, found[folder].rows, folder.name))
