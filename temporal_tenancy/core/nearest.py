"""The known name that a mistyped one is nearest to."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

LONGEST: Final = 255  # characters of a name; comparing two takes time by the square of it


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Returns the known name that is most like `name`, whatever their case; None if none is."""
    if len(name) > LONGEST:
        return None
    by_folded: dict[str, str] = {}
    for each in known:
        by_folded.setdefault(each.casefold(), each)
    found = get_close_matches(name.casefold(), by_folded, n=1)
    return by_folded[found[0]] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns the sentence ` Did you mean "x"?`, with a blank before it, or an empty string."""
    found = nearest(name, known)
    return "" if found is None else f' Did you mean "{found}"?'
