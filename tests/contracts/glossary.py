"""The words we use, read from `contracts/glossary.toml`, and which words of a text it refuses."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

GLOSSARY = Path(__file__).parents[2] / "contracts" / "glossary.toml"


class Term(BaseModel):
    """One word: what it means, what it must not be taken for, which team's jargon it stands for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    meaning: str
    is_not: Annotated[str, Field(alias="not")]
    replaces: list[str]


class Glossary(BaseModel):
    """Every term by its name, and every refused word with what to say instead."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    term: dict[str, Term]
    refused: dict[str, str]

    def faults(self, text: str) -> Iterator[str]:
        """Refused words in a text or a name, with the suggestion. Words of a name are apart at _, - and capitals."""
        said = set(re.findall(r"[A-Z]+s?(?![a-z])|[A-Z]?[a-z]+", text))
        folded = {word.lower() for word in said}
        for word, instead in self.refused.items():
            if {word, f"{word}s"} & (folded if word.islower() else said):
                yield f"{word!r}: {instead}"


def load(path: Path = GLOSSARY) -> Glossary:
    """Read the glossary."""
    return Glossary.model_validate(tomllib.loads(path.read_text()))
