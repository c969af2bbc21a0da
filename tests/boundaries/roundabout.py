"""Ways around import-linter: imports and processes that name another team in a string."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

TEAMS = ("data", "model", "serving", "product", "monitoring", "loadtests", "deploy")
IMPORTERS = ("import_module", "__import__", "run_module", "resolve_name", "find_spec", "spec_from_file_location")
STARTERS = ("run", "Popen", "call", "check_call", "check_output", "system", "popen", "create_subprocess_shell")
MAY_START = {
    "deploy": TEAMS,  # starting every team's process is what it is for
    "loadtests": ("deploy",),  # the load test starts a Tandem of its own by the launcher, as a person would
}


@dataclass(frozen=True)
class Detour:
    """Code of one team that reaches for another one by name."""

    path: str
    line: int
    how: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.how}; teams meet only at contracts/: publish it there or in a feed"


def detours(source: str, path: str) -> Iterator[Detour]:
    """What a file does to reach another team without an import statement. The team is the path's first folder."""
    own, tree = path.split("/", maxsplit=1)[0], ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _name(node.func) in IMPORTERS:
            target = _text(node.args[0]) if node.args else None
            if target is None:
                yield Detour(path, node.lineno, f"{_name(node.func)} of a name that nobody can check")
            elif _team(target) not in (None, own):
                yield Detour(path, node.lineno, f"{_name(node.func)} reaches into {_team(target)}/")
    for line, words in _command_lines(tree):
        for flag, module in pairwise(words):
            if flag == "-m" and module and _team(module) not in (None, own, *MAY_START.get(own, ())):
                yield Detour(path, line, f"starts python -m {module}")


def _command_lines(tree: ast.AST) -> Iterator[tuple[int, list[str | None]]]:
    """What may be a command line: the words of each list, and of each string that is run. None for a word unknown."""
    compared = {id(part) for node in ast.walk(tree) if isinstance(node, ast.Compare) for part in node.comparators}
    for node in ast.walk(tree):
        if isinstance(node, ast.List | ast.Tuple) and id(node) not in compared:
            yield node.lineno, [_text(word) for word in node.elts]
        if isinstance(node, ast.Call) and _name(node.func) in STARTERS and node.args and (line := _text(node.args[0])):
            yield node.lineno, list(line.split())


def _text(node: ast.expr) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _team(module: str) -> str | None:
    root = module.replace("/", ".").lstrip(".").split(".")[0]
    return root if root in TEAMS else None


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
