"""Limits on the JSON of outbox messages, and a reader that enforces them on untrusted text.

PostgreSQL stores JSONB that Python cannot parse, and Python parses JSON that cannot be sent on.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping
from typing import Any, Final

from pydantic import BaseModel

from temporal_tenancy.core.errors import TenancyError

DEPTH: Final = 100  # levels of nested objects and lists
PARTS: Final = 1_000_000  # objects, lists and scalars in one value
DIGITS: Final = 1_000  # of a number written without an exponent; a finite double has fewer
PAYLOAD_MAX_BYTES: Final = 64 * 1024  # of a message's payload
READABLE: Final = 256 * 1024  # characters, in PostgreSQL's JSONB output, which adds spaces
UNKNOWN: Final = ""
"""Marks a JSONB value that PostgreSQL could not write as text. It is not valid JSON itself."""

_BYTE_ORDER_MARK: Final = "\ufeff"  # which editors on Windows put before what they save
_NUL: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")  # as JSON writes it
_EXPONENT: Final = re.compile(r"\de([+-]\d{1,3})(?=[],}])")  # as Python and pydantic write it


class PayloadUnreadable(TenancyError):
    """The stored payload of a message cannot be read."""


class NotReadable(ValueError):
    """A text is not JSON or exceeds a limit; the message does not quote the text."""


def read(text: str) -> Any:  # JSON
    """Parses a JSON text into a value that is safe to validate, compare, print and write as JSON.

    Raises:
        NotReadable: the text is not JSON, is longer than 262,144 characters, nests deeper than 100
            levels, or has a number that is not finite or of more than 1,000 digits, or half a
            surrogate pair. It raises nothing else.
    """
    if text == UNKNOWN:
        raise NotReadable("is more than the database can write as text")
    if len(text) > READABLE:
        raise _too_long()
    try:
        value = _DECODER.decode(text.removeprefix(_BYTE_ORDER_MARK))
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
    """Parses the payload of a message like `read`.

    Args:
        text: JSON.
        what: the subject of the error's sentence, such as "the payload of billing.cycle".

    Raises:
        PayloadUnreadable: `read` would raise `NotReadable`.
    """
    try:
        return read(text)
    except NotReadable as error:
        raise PayloadUnreadable(
            f"{what} cannot be read: it {error}. Fix the code that writes it, enqueue the job "
            "again, and discard this one."
        ) from None


def require_storable(text: str) -> None:
    """Checks that PostgreSQL accepts a JSON text as JSONB, and that `read` can read it back.

    PostgreSQL writes JSONB with a space after each comma and colon and without exponents.

    Raises:
        NotReadable: it would not.
    """
    if _NUL.search(text) is not None:
        raise NotReadable("has a NUL character, which JSONB refuses")
    read(text)
    blanks = text.count(",") + text.count(":")
    zeros = sum(abs(int(exponent)) for exponent in _EXPONENT.findall(text))
    if len(text) + blanks + zeros > READABLE:
        raise _too_long()


def require_writable(value: Any) -> None:
    """Checks that a value can be written as JSON in reasonable time.

    A list that contains itself, or nested lists that repeat one another, expand to any number of
    parts from few objects. Writing an integer takes time quadratic in its digits.

    Raises:
        NotReadable: the value has more than 1,000,000 parts, or an integer of more than about 1,200
            digits.
    """
    pending, parts = [value], 0
    while pending:
        part = pending.pop()
        parts += 1
        if isinstance(part, int) and part.bit_length() > 4 * DIGITS:  # a digit is 3.3 bits
            raise _too_many_digits()
        inner: Collection[Any] = ()
        if isinstance(part, BaseModel):
            inner = vars(part).values()
        elif isinstance(part, Mapping):
            inner = part.values()
        elif isinstance(part, list | tuple | set | frozenset):
            inner = part
        if parts + len(pending) + len(inner) > PARTS:
            raise NotReadable(f"has more than {PARTS:,} parts")
        pending += inner


def require_finite(value: Any) -> None:
    """Checks that a value of mappings and lists has no Infinity and no NaN.

    pydantic would silently write them to JSON as null.

    Raises:
        NotReadable: it has one.
    """
    pending = [value]
    while pending:
        part = pending.pop()
        if isinstance(part, float) and not math.isfinite(part):
            raise NotReadable("has a number that is not finite")
        if isinstance(part, Mapping):
            pending += part.values()
        elif isinstance(part, list | tuple | set | frozenset):
            pending += part


def _int(digits: str) -> int:
    if len(digits) > DIGITS:
        raise _too_many_digits()
    return int(digits)


def _float(digits: str) -> float:
    mantissa, _, exponent = digits.lower().partition("e")
    # PostgreSQL writes numbers without an exponent: 1e300 has 301 digits.
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
            for part in level
            for inner in (part.values() if isinstance(part, dict) else part)
            if isinstance(inner, dict | list)
        ]
    return bool(level)


def _require_characters(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise NotReadable("has half a surrogate pair, which is not a character") from None


def _too_long() -> NotReadable:
    return NotReadable(f"is longer than {READABLE:,} characters as the database writes JSON")


def _too_deep() -> NotReadable:
    return NotReadable(f"nests deeper than {DEPTH} levels")


def _too_many_digits() -> NotReadable:
    return NotReadable(f"has a number of more than {DIGITS:,} digits")


def fits_a_message(payload: Mapping[str, Any]) -> bool:
    """Returns whether an outbox message can hold `payload`: at most 64 KiB, and readable again."""
    try:
        text = json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        if len(text.encode()) > PAYLOAD_MAX_BYTES:
            return False
        require_storable(text)
    except (ValueError, RecursionError):  # ValueError covers surrogates and non-finite numbers too
        return False
    return True
