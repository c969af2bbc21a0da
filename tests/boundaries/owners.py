"""Who owns what, read from CODEOWNERS, and what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TEAMS = ("data", "model", "serving", "product", "monitoring", "platform")
OWNER_LINE = re.compile(r"^Owner: @tandem/(\w+)\.(?: Feeds: (.+)\.)?$", re.MULTILINE)


@dataclass(frozen=True)
class Rule:
    """One line of CODEOWNERS: files that match `pattern` belong to `owners`."""

    line: int
    pattern: str
    owners: tuple[str, ...]

    def matches(self, path: str) -> bool:
        """Patterns start at the root; one that ends with / is a folder and all in it, * stays within a name.

        >>> Rule(1, "/tests/*.py", ("platform",)).matches("tests/trips.py")
        True
        >>> Rule(1, "/tests/*.py", ("platform",)).matches("tests/data/trips.py")
        False
        """
        parts = [re.escape(part) for part in self.pattern.lstrip("/").split("*")]
        return re.fullmatch("[^/]*".join(parts) + (".*" if self.pattern.endswith("/") else ""), path) is not None


def rules(text: str) -> list[Rule]:
    """The rules of a CODEOWNERS file; owners without their `@tandem/`."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if (words := line.split()) and not line.startswith("#"):
            found.append(Rule(number, words[0], tuple(word.removeprefix("@tandem/") for word in words[1:])))
    return found


def path_faults(stated: Sequence[Rule], files: Iterable[str]) -> Iterator[str]:
    """Files with no rule or several, rules with no file, with no team or several."""
    used = set()
    for path in files:
        mine = [rule for rule in stated if rule.matches(path)]
        used |= {rule.line for rule in mine}
        if not mine:
            yield f"{path} has no owner: add a line for it to CODEOWNERS"
        if len(mine) > 1:
            yield f"{path} has {len(mine)} rules, lines {[rule.line for rule in mine]}: leave one"
    for rule in stated:
        if len(rule.owners) != 1 or rule.owners[0] not in TEAMS:
            yield f"line {rule.line}: {rule.pattern} is owned by {rule.owners}: name one of {TEAMS}"
        if rule.line not in used:
            yield f"line {rule.line}: {rule.pattern} owns nothing: remove it"


def charter_faults(charters: Mapping[str, str], stated: Sequence[Rule], feeds: Mapping[str, str]) -> Iterator[str]:
    """Charters that do not say whose they are and which feeds are written there. `charters` is text by folder."""
    for folder, text in charters.items():
        owner = next(rule.owners[0] for rule in stated if rule.matches(f"{folder}/README.md"))
        lines = OWNER_LINE.findall(text)
        if len(lines) != 1:
            yield f"{folder}/README.md says {len(lines)} times who owns it: say once 'Owner: @tandem/{owner}.'"
            continue
        team, named = lines[0]
        if team != owner:
            yield f"{folder}/README.md says that {team} owns it, CODEOWNERS says {owner}: make them agree"
        written = {feed for feed, writer in feeds.items() if writer == folder}
        if set(re.findall(r"`(\w+)`", named)) != written:
            yield f"{folder}/README.md names the feeds [{named}], contracts/feeds.py gives it {sorted(written)}"


def charters(root: Path, folders: Iterable[str]) -> dict[str, str]:
    """The charter of each folder."""
    return {folder: (root / folder / "README.md").read_text() for folder in folders}
