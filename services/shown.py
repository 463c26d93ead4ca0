"""Text of somebody else's in a sentence of ours: on one line, and nothing that a terminal obeys."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

_ELLIPSIS: Final = "…"


def shown(text: str, characters: int = 80) -> str:
    """`text` as it may stand in a sentence: what is not printable is escaped, as Python does.

    So control and format characters, line ends and blanks other than the space are seen and do
    nothing. What is longer than `characters` is cut, and ends with an ellipsis.
    """
    cut = text if len(text) <= characters else text[: characters - 1] + _ELLIPSIS
    if cut.isascii() and cut.isprintable():
        return cut
    return "".join(each if each.isprintable() else _escaped(each) for each in cut)


def listed(texts: Iterable[str], *, most: int = 12, characters: int = 40) -> str:
    """Texts in quotes, with commas between; the first ones where there are too many."""
    given = list(texts)
    parts = [f'"{shown(each, characters)}"' for each in given[:most]]
    if len(given) > most:
        parts.append(f"and {len(given) - most:,} more")
    return ", ".join(parts)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
