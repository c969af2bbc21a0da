"""Every path, feed and requirement has exactly one owning team, and the charters say the same."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import get_args

import pytest

from contracts import requirements
from contracts.feeds import FEED_OWNERS, FeedName
from tests.boundaries.owners import TEAMS, charter_faults, charters, path_faults, rules

ROOT = Path(__file__).parents[2]
STATED = rules((ROOT / "CODEOWNERS").read_text())
FOLDERS = ("chassis", "contracts", "data", "deploy", "loadtests", "model", "monitoring", "product", "serving")


def files() -> list[str]:
    """What is in the repository, or about to be."""
    told = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return told.stdout.splitlines()


def test_every_path_has_exactly_one_owner():
    assert len(files()) > 200
    assert list(path_faults(STATED, files())) == []


def test_every_feed_has_exactly_one_owner_whose_charter_says_so():
    assert set(FEED_OWNERS) == set(get_args(FeedName))
    assert set(FEED_OWNERS.values()) <= set(TEAMS)
    assert list(charter_faults(charters(ROOT, FOLDERS), STATED, FEED_OWNERS)) == []


def test_every_requirement_and_so_every_alert_has_one_owner():
    """An alert is made from the requirement it watches and goes to its owner."""
    owners = {item.id: item.owner for item in requirements.load().all()}
    assert owners
    assert {owner for owner in owners.values() if owner not in TEAMS} == set()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("/serving/edge.py @tandem/product", "serving/edge.py has 2 rules"),
        ("/tests/system/*.py @tandem/data", "tests/system/test_run.py has 2 rules"),
        ("/nowhere/ @tandem/data", "/nowhere/ owns nothing"),
        ("/NEW @tandem/data @tandem/model", "/NEW is owned by ('data', 'model')"),
        ("/NEW @tandem/someone", "/NEW is owned by ('someone',)"),
        ("/NEW", "/NEW is owned by ()"),
    ],
)
def test_a_second_owner_is_found(line, said):
    seeded = rules((ROOT / "CODEOWNERS").read_text() + line + "\n")
    assert any(said in fault for fault in path_faults(seeded, [*files(), *(["NEW"] if "NEW" in line else [])]))


def test_a_path_that_nobody_owns_is_found():
    assert "new/thing.py has no owner: add a line for it to CODEOWNERS" in path_faults(
        STATED, [*files(), "new/thing.py"]
    )


@pytest.mark.parametrize(
    ("charter", "said"),
    [
        ("# serving", "says 0 times who owns it"),
        ("Owner: @tandem/serving. Feeds: `estimates`, `rollout`.\nOwner: @tandem/data.\n", "says 2 times"),
        ("Owner: @tandem/product. Feeds: `estimates`, `rollout`.\n", "says that product owns it"),
        ("Owner: @tandem/serving. Feeds: `estimates`.\n", "names the feeds [`estimates`]"),
        ("Owner: @tandem/serving. Feeds: `estimates`, `rollout`, `trips`.\n", "gives it ['estimates', 'rollout']"),
    ],
)
def test_a_charter_that_claims_too_much_or_too_little_is_found(charter, said):
    [fault] = charter_faults({"serving": charter}, STATED, FEED_OWNERS)
    assert said in fault
