"""Text of somebody else's in a sentence of ours: on one line, and nothing that a terminal obeys."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from temporal_tenancy.core.printable import spelled_out

_ELLIPSIS: Final = "…"


def shown(text: str, characters: int = 80) -> str:
    """`text` as it may stand in a sentence: what is not printable is spelled out.

    What is longer than `characters` is cut, and ends with an ellipsis.
    """
    cut = text if len(text) <= characters else text[: characters - 1] + _ELLIPSIS
    if cut.isascii() and cut.isprintable():
        return cut
    return "".join(each if each.isprintable() else spelled_out(each) for each in cut)


def listed(texts: Iterable[str], *, most: int = 12, characters: int = 40) -> str:
    """Texts in quotes, with commas between; the first ones where there are too many."""
    given = list(texts)
    parts = [f'"{shown(each, characters)}"' for each in given[:most]]
    if len(given) > most:
        parts.append(f"and {len(given) - most:,} more")
    return ", ".join(parts)
