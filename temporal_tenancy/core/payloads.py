"""JSON that anybody may have written, read from its text: what a message may hold, and what not.

The database takes more as JSONB than Python reads, and Python reads more than can be sent on.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping
from typing import Any, Final

from pydantic import BaseModel

from temporal_tenancy.core.errors import TenancyError

DEPTH: Final = 100  # objects and lists inside one another
PARTS: Final = 1_000_000  # of a value, that are looked at
DIGITS: Final = 1_000  # of a number, written without an exponent; any finite double has fewer
PAYLOAD_MAX_BYTES: Final = 64 * 1024  # of a message
READABLE: Final = 256 * 1024  # characters, as the database writes JSONB: with blanks
UNKNOWN: Final = ""
"""Stands for a text that the database itself could not make: nothing that JSON could be."""

_NUL: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")  # as JSON writes it
_EXPONENT: Final = re.compile(r"\de([+-]\d{1,3})(?=[],}])")  # as Python and pydantic write it


class PayloadUnreadable(TenancyError):
    """What was kept of a message's payload cannot be read."""


class NotReadable(ValueError):
    """A text that is not JSON, or more than is read; says which, and repeats nothing of it."""


def read(text: str) -> Any:  # JSON
    """Returns the value of a JSON text; raises `NotReadable`, and never anything else.

    What it returns can be validated, compared, shown, and written as JSON again.
    """
    if text == UNKNOWN:
        raise NotReadable("is more than the database can write as text")
    if len(text) > READABLE:
        raise _too_long()
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise NotReadable(
            f"is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from None
    except RecursionError:
        raise _too_deep() from None
    if _depth_exceeds(value, DEPTH):
        raise _too_deep()
    _require_characters(text)
    if "\\" in text and "\\u" in text:
        _require_characters(json.dumps(value, ensure_ascii=False))
    return value


def read_message(text: str, *, what: str) -> Any:  # JSON
    """`read`, for what a message holds; raises `PayloadUnreadable`. `what` names the payload."""
    try:
        return read(text)
    except NotReadable as error:
        raise PayloadUnreadable(
            f"{what} cannot be read: it {error}. Mend what writes it, ask for the job anew, and "
            "discard this one."
        ) from None


def require_storable(text: str) -> None:
    """Raises `NotReadable` where the database refuses a JSON text, or nobody could read it there.

    It writes a blank after each comma and colon, and each number without an exponent.
    """
    if _NUL.search(text) is not None:
        raise NotReadable("has a NUL character, which JSONB refuses")
    read(text)
    blanks = text.count(",") + text.count(":")
    zeros = sum(abs(int(exponent)) for exponent in _EXPONENT.findall(text))
    if len(text) + blanks + zeros > READABLE:
        raise _too_long()


def require_writable(value: Any) -> None:
    """Raises `NotReadable` where writing a value as JSON would take very long.

    A list that is in itself, or in a list many times that is in another many times, has few objects
    and as many parts as it takes. The time for a whole number is the square of its digits.
    """
    waiting, parts = [value], 0
    while waiting:
        each = waiting.pop()
        parts += 1
        if isinstance(each, int) and each.bit_length() > 4 * DIGITS:  # a digit is 3.3 bits
            raise _too_many_digits()
        inner: Collection[Any] = ()
        if isinstance(each, BaseModel):
            inner = vars(each).values()
        elif isinstance(each, Mapping):
            inner = each.values()
        elif isinstance(each, list | tuple | set | frozenset):
            inner = each
        if parts + len(waiting) + len(inner) > PARTS:
            raise NotReadable(f"has more than {PARTS:,} parts")
        waiting += inner


def require_finite(value: Any) -> None:
    """Raises `NotReadable` where a value (of mappings and lists) has Infinity or NaN in it.

    As JSON they would become null without a word.
    """
    open_ = [value]
    while open_:
        each = open_.pop()
        if isinstance(each, float) and not math.isfinite(each):
            raise NotReadable("has a number that is not finite")
        if isinstance(each, Mapping):
            open_ += each.values()
        elif isinstance(each, list | tuple | set | frozenset):
            open_ += each


def _int(digits: str) -> int:
    if len(digits) > DIGITS:
        raise _too_many_digits()
    return int(digits)


def _float(digits: str) -> float:
    mantissa, _, exponent = digits.lower().partition("e")
    # As the database writes it: 1e300 has 301 digits there.
    if len(exponent) > len(str(DIGITS)) + 1 or len(mantissa) + abs(int(exponent or 0)) > DIGITS:
        raise _too_many_digits()
    value = float(digits)
    if not math.isfinite(value):
        raise NotReadable("has a number that is not finite")
    return value


def _constant(name: str) -> float:
    raise NotReadable("has a number that is not finite")


_DECODER: Final = json.JSONDecoder(parse_int=_int, parse_float=_float, parse_constant=_constant)


def _depth_exceeds(value: Any, limit: int) -> bool:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(limit):
        if not level:
            return False
        level = [
            inner
            for each in level
            for inner in (each.values() if isinstance(each, dict) else each)
            if isinstance(inner, dict | list)
        ]
    return bool(level)


def _require_characters(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise NotReadable("has half a surrogate pair, which is no character") from None


def _too_long() -> NotReadable:
    return NotReadable(f"is longer than {READABLE:,} characters as the database writes JSON")


def _too_deep() -> NotReadable:
    return NotReadable(f"nests deeper than {DEPTH} levels")


def _too_many_digits() -> NotReadable:
    return NotReadable(f"has a number of more than {DIGITS:,} digits")


def fits_a_message(payload: Mapping[str, Any]) -> bool:
    """Whether an outbox message may hold `payload`: 64 KiB of what can be read back."""
    try:
        text = json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        if len(text.encode()) > PAYLOAD_MAX_BYTES:
            return False
        require_storable(text)
    except (ValueError, RecursionError):  # half a surrogate pair too, and numbers that JSON has not
        return False
    return True
