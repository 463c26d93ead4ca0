"""One helper says counts and lengths of time: no sentence makes a plural by hand."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[3]
ROOMS: Final = ("temporal_tenancy", "processes", "saas", "activities", "workflows", "dev")
# What the project counts. Verbs look the same, so each noun is named.
NOUNS: Final = (
    *("activities", "alerts", "attempts", "bytes", "characters", "checks", "children", "columns"),
    *("connections", "contacts", "days", "digits", "documents", "entries", "errors", "events"),
    *("exports", "failures", "files", "findings", "flights", "hours", "ids", "imports", "invoices"),
    *("jobs", "keys", "letters", "levels", "messages", "minutes", "months", "packages", "pages"),
    *("records", "replays", "requests", "retries", "roles", "rows", "schedules", "seconds"),
    *("shards", "tables", "tenants", "ticks", "times", "tries", "users", "values", "views"),
    *("warnings", "workers", "workflows"),
)
_NO_ADJECTIVE: Final = "(?:all|and|are|by|for|from|has|have|in|is|of|on|or|that|to|which|with)"
_COUNTED: Final = re.compile(rf" (?:(?!{_NO_ADJECTIVE}\b)[a-z]+ ){{0,2}}(?:{'|'.join(NOUNS)})\b")
_OPTIONAL: Final = re.compile(r"[a-z]\(e?s\)")
# Names of limits, such as BODY_MAX_BYTES or max_bytes: never 1.
_LIMIT: Final = re.compile(r"(?:\w+\.)*(?:[A-Z][A-Z0-9_]*|max_bytes)(?:\.\w+)?")
# Words that are no numbers, though a noun follows them.
_WORD: Final = re.compile(
    r".*(?:name|tenant|owner|job|kind|status|quoted.*|command.*|host|sql|sync|basename\(.*\))"
)


def sources() -> list[Path]:
    return [
        path
        for room in ROOMS
        for path in sorted((ROOT / room).rglob("*.py"))
        # Migrations stay as they are, and values for SQL are not for people.
        if "versions" not in path.parts and path.name != "_values.py"
    ]


def hand_made(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yields the line and the beginning of each plural that a string makes itself."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if _OPTIONAL.search(node.value):
                yield node.lineno, node.value
        elif isinstance(node, ast.JoinedStr):
            for value, text in zip(node.values, node.values[1:], strict=False):
                if isinstance(value, ast.FormattedValue) and isinstance(text, ast.Constant):
                    expression = ast.unparse(value.value)
                    if _LIMIT.fullmatch(expression) or _WORD.fullmatch(expression):
                        continue
                    following = text.value if isinstance(text.value, str) else ""
                    if _COUNTED.match(following):
                        yield node.lineno, f"{{{expression}}}{following}"
        elif isinstance(node, ast.IfExp) and {_text(node.body), _text(node.orelse)} == {"", "s"}:
            yield node.lineno, ast.unparse(node)


def _text(node: ast.expr) -> object:
    return node.value if isinstance(node, ast.Constant) else None


@pytest.mark.parametrize(
    "source",
    [
        'f"{count} tenants failed."',
        'f"{count:,} dead letters"',
        'f"{len(rows)} audit entries of {tenant.id}"',
        '"row(s) deleted"',
        """f"{count} row{'' if count == 1 else 's'}\"""",
        """f"{count} {'child' if x else 'run'}{'s' if count != 1 else ''}\"""",
    ],
)
def test_a_plural_made_by_hand_is_found(source: str) -> None:
    assert list(hand_made(ast.parse(source)))


@pytest.mark.parametrize(
    "source",
    [
        "f\"{number(count, 'tenant')} failed.\"",
        'f"{job.name} runs for all tenants"',
        'f"at most {BODY_MAX_BYTES:,} bytes"',
        'f"{tenant.id} has rows"',
        '"tenants"',
    ],
)
def test_what_counts_nothing_is_left_alone(source: str) -> None:
    assert not list(hand_made(ast.parse(source)))


def test_no_sentence_makes_a_plural_by_hand() -> None:
    found = {
        f"{path.relative_to(ROOT)}:{line}: {text[:80]}"
        for path in sources()
        for line, text in hand_made(ast.parse(path.read_text()))
    }
    assert not found, "use number() of temporal_tenancy.core:\n" + "\n".join(sorted(found))
