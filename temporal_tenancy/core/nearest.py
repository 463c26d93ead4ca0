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


def _misspelled(names: Collection[str], environ: Mapping[str, str]) -> Mapping[str, str]:
    """Returns the set variables that look like misspelled ones of `names`, each with that one.

    Only for names that are not set themselves.
    """
    others = [each for each in environ if each not in names and len(each) <= LONGEST]
    found: dict[str, str] = {}
    for name in names:
        if not environ.get(name):
            for wrong in get_close_matches(name, others, n=max(1, len(others)), cutoff=CLOSE):
                found.setdefault(wrong, name)
    return found


def refuse_misspelled(names: Collection[str], environ: Mapping[str, str]) -> None:
    """Raises `ConfigurationError` if set variables look like misspelled ones of `names`."""
    found = _misspelled(names, environ)
    if found:
        # Imported here: it loads the SDK, which help and mistyped options do without.
        from temporal_tenancy.core.errors import ConfigurationError

        what = "which is not a setting" if len(found) == 1 else "which are not settings"
        meant = " and ".join(f'"{right}"' for right in found.values())
        raise ConfigurationError(
            f"the environment has {' and '.join(found)}, {what}. Did you mean {meant}?"
        )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns the sentence ` Did you mean "x"?`, with a blank before it, or an empty string."""
    found = nearest(name, known)
    return "" if found is None else f' Did you mean "{found}"?'
