"""Each sentence of the doctor's checks and of the HTTP door's refusals is expected by some test.

One that no test has ever seen may be unreachable, or wrong where a person reads it.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from processes.web import refusals
from processes.web.errors import FOR_CALLERS, STATUSES
from processes.web.refusals import WebRefusal

ROOT: Final = Path(__file__).parents[3]
CHECKS: Final = [
    *sorted((ROOT / "temporal_tenancy" / "cli").glob("_*_checks.py")),
    ROOT / "temporal_tenancy" / "cli" / "_directory_access.py",
]
DOOR: Final = sorted((ROOT / "processes" / "web").glob("*.py"))
WORDS: Final = 3  # of a sentence, at least
ENOUGH: Final = 14  # characters in which a test agrees with one sentence alone
REFUSALS: Final = {kind.__name__ for kind in (*STATUSES, *WebRefusal.__subclasses__())}
TELLING: Final = {"problem", "_refuse"}  # functions that answer with a sentence
OTHERS: Final = ("read the known time zones", "look for the running processes")  # of sessions


@dataclass(frozen=True)
class Sentence:
    """A sentence in the code: the pieces of text between its values."""

    where: str
    pieces: Sequence[str]
    kind: str = ""  # of the refusal whose docstring it is

    @cached_property
    def parts(self) -> set[str]:
        return parts_of(self.pieces)


def parts_of(pieces: Sequence[str]) -> set[str]:
    return {
        piece[at : at + ENOUGH] for piece in pieces for at in range(max(1, len(piece) - ENOUGH + 1))
    }


def text_of(node: ast.AST) -> Sequence[str]:
    """Returns the pieces of a string in code, without those between its values."""
    match node:
        case ast.Constant(value=str(text)):
            return [_plain(text)]
        case ast.Constant(value=bytes(raw)):
            return [_plain(raw.decode(errors="replace"))]
        case ast.JoinedStr(values=values):
            return [_plain(each.value) for each in values if isinstance(each, ast.Constant)]
    return []


def _plain(text: object) -> str:
    """Returns text as it is said: patterns in tests escape it, and docstrings break it."""
    return re.sub(r"\s+", " ", str(text).replace("\\", ""))


def strings(file: Path) -> Iterator[tuple[int, Sequence[str]]]:
    """Yields every string in a file with its line, but for docstrings and pieces of others."""
    tree = ast.parse(file.read_text())
    skipped = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            skipped.add(id(node.value))
        if isinstance(node, ast.JoinedStr):
            skipped.update(map(id, node.values))
    for node in ast.walk(tree):
        if isinstance(node, ast.expr) and id(node) not in skipped and (pieces := text_of(node)):
            yield node.lineno, pieces


def of_the_checks() -> Iterator[Sentence]:
    """Yields every text of several words in the modules of the checks."""
    for file in CHECKS:
        for line, pieces in strings(file):
            text = " ".join(pieces)
            if len(text.split()) >= WORDS and text not in OTHERS:
                yield Sentence(f"{file.name}:{line}", pieces)


def of_the_door() -> Iterator[Sentence]:
    """Yields what each refusal says: the text that it is made with, or else its docstring."""
    for kind, template in FOR_CALLERS.items():
        yield Sentence(kind.__name__, re.split(r"\{\w+\}", template))
    for file in DOOR:
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Raise(exc=ast.Name(id=name)) if name in REFUSALS:
                    told, names = [], [name]
                case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=args):
                    names = [each.id for each in args if isinstance(each, ast.Name)]
                    texts = [text_of(each) for each in args] if name in REFUSALS | TELLING else []
                    told = [each for each in texts if " " in "".join(each)]
                    names += [name] if not told else []
                case _:
                    continue
            where = f"{file.name}:{node.lineno}"
            yield from (Sentence(where, each) for each in told)
            for name in REFUSALS.intersection(names).intersection(vars(refusals)):
                yield Sentence(where, [_plain(vars(refusals)[name].__doc__)], name)


def expected() -> set[str]:
    """Returns all that tests expect: each string, and its parts."""
    files = [file for file in (ROOT / "tests").rglob("*.py") if file != Path(__file__)]
    pieces = [
        piece
        for file in files
        if not {"mutants", "held_names"}.intersection(file.parts)
        for _, found in strings(file)
        for piece in found
    ]
    return parts_of(pieces).union(pieces)


def test_every_sentence_is_expected_by_a_test() -> None:
    sentences = [*of_the_checks(), *of_the_door()]
    assert len(sentences) > 120
    texts = {tuple(each.pieces): each for each in sentences}
    count = Counter(part for each in texts.values() for part in each.parts)
    known = expected()
    unseen = [
        f"{each.where}: {'{}'.join(each.pieces)}"
        for each in texts.values()
        if each.kind not in known
        and not known & ({part for part in each.parts if count[part] == 1} or each.parts)
    ]
    assert not unseen, "\n".join(unseen)
