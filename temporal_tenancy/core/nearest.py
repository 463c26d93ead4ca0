"""The known name that a mistyped one is nearest to."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import Final

CLOSE: Final = 0.93  # how like a misspelled variable is to its name; DATABASE_URI is another one
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


def _misspelled(names: Collection[str], environ: Mapping[str, str]) -> tuple[str, str] | None:
    """Returns a set variable that looks like a misspelled one of `names`, and that one.

    Only for a name that is not set itself; None if there is no such variable.
    """
    others = [each for each in environ if each not in names and len(each) <= LONGEST]
    for name in names:
        if not environ.get(name):
            found = get_close_matches(name, others, n=1, cutoff=CLOSE)
            if found:
                return found[0], name
    return None


def refuse_misspelled(names: Collection[str], environ: Mapping[str, str]) -> None:
    """Raises `ConfigurationError` if a set variable looks like a misspelled one of `names`."""
    found = _misspelled(names, environ)
    if found is not None:
        # Imported here: it loads the SDK, which help and mistyped options do without.
        from temporal_tenancy.core.errors import ConfigurationError

        wrong, right = found
        raise ConfigurationError(
            f'the environment has {wrong}, which is not a setting. Did you mean "{right}"?'
        )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns the sentence ` Did you mean "x"?`, with a blank before it, or an empty string."""
    found = nearest(name, known)
    return "" if found is None else f' Did you mean "{found}"?'
