"""Makes untrusted text safe to show in a message: one line, without terminal control codes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from temporal_tenancy.core import spelled_out

_ELLIPSIS: Final = "…"


def shown(text: str, characters: int = 80) -> str:
    """Returns `text` with non-printable characters spelled out.

    Text longer than `characters` is cut, with an ellipsis at the end.
    """
    cut = text if len(text) <= characters else text[: characters - 1] + _ELLIPSIS
    if cut.isascii() and cut.isprintable():
        return cut
    return "".join(each if each.isprintable() else spelled_out(each) for each in cut)


def listed(texts: Iterable[str], *, most: int = 12, characters: int = 40) -> str:
    """Returns the texts quoted and comma-separated: the first `most`, then how many more."""
    items = list(texts)
    parts = [f'"{shown(item, characters)}"' for item in items[:most]]
    if len(items) > most:
        parts.append(f"and {len(items) - most:,} more")
    return ", ".join(parts)
