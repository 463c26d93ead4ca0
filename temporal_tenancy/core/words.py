"""Counts, lengths of time and moments, written as people say them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

_Y: Final = re.compile(r"(?<=[^aeiou])y$")
_HISSING: Final = re.compile(r"(?:s|x|z|ch|sh)$")

_UNITS: Final = (("day", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
_SIZES: Final = (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024))
_TENTHS_BELOW: Final = 10  # seconds


def number(count: int, noun: str, plural: str | None = None) -> str:
    """Returns a count with its noun, such as `1 tenant`, `2 entries` or `10,000 rows`.

    Args:
        count: how many.
        noun: in the singular; its last word takes the plural.
        plural: a plural that is not regular, such as `children`.
    """
    return f"{count:,} {noun if count == 1 else plural or plural_of(noun)}"


def plural_of(noun: str) -> str:
    """Returns the regular plural of a noun: `tenants`, `entries`, `batches`."""
    if _Y.search(noun):
        return _Y.sub("ies", noun)
    return f"{noun}es" if _HISSING.search(noun) else f"{noun}s"


def duration(length: timedelta) -> str:
    """Returns a length of time in its two largest units: `2 days`, `3 min 20 s`, `0.4 s`.

    Rounds to what people care about: from 10 seconds to whole seconds, from an hour to minutes,
    from a day to hours, from 10 days to days. A negative length is said as a positive one.
    """
    seconds = abs(length.total_seconds())
    if seconds < _TENTHS_BELOW:
        tenths = f"{seconds:.1f}".removesuffix(".0")
        if tenths != str(_TENTHS_BELOW):
            return f"{tenths} s"
    size = _rounded_to(seconds)
    whole = int(seconds / size + 0.5) * size
    parts = []
    for unit, length_of_unit in _UNITS:
        count, whole = divmod(whole, length_of_unit)
        if count:
            parts.append(number(count, unit) if unit == "day" else f"{count} {unit}")
    return " ".join(parts)


def _rounded_to(seconds: float) -> int:
    if seconds >= 10 * 86_400:
        return 86_400
    if seconds >= 86_400:
        return 3_600
    return 60 if seconds >= 3_600 else 1


def size_of(count: int) -> str:
    """Returns a number of bytes in the largest unit of which it has at least one: `1.5 MiB`."""
    for unit, size in _SIZES:
        if count >= size:
            return f"{count / size:.1f}".removesuffix(".0") + f" {unit}"
    return number(count, "byte")


def when(moment: datetime) -> str:
    """Returns a time in UTC to the second, such as `2026-11-27 18:25:03Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def minute(moment: datetime) -> str:
    """Returns a time in UTC to the minute, such as `2026-11-27 18:25Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%MZ")
