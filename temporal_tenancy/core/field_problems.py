"""Says what is wrong with a field, for people: pydantic's own messages are for programmers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from temporal_tenancy.core.nearest import nearest

LONGEST: Final = 80  # characters of a field's name, which the caller chose

_SAYS: Final = {
    "missing": "it is missing",
    "extra_forbidden": "there is no such field",
    "string_type": "it must be text",
    "bool_type": "it must be true or false",
    "bool_parsing": "it must be true or false",
    "int_type": "it must be a whole number",
    "int_parsing": "it must be a whole number",
    "int_from_float": "it must be a whole number",
    "float_type": "it must be a number",
    "float_parsing": "it must be a number",
    "finite_number": "it must be a finite number",
    "list_type": "it must be a list",
    "tuple_type": "it must be a list",
    "dict_type": "it must be an object",
    "model_type": "it must be an object",
    "model_attributes_type": "it must be an object",
    "none_required": "it must be null",
    "timezone_aware": "it must have an offset, as in 2026-12-24T18:00:00Z",
}
_LEAD: Final = re.compile(r"(?:Value error|Assertion failed), ")
_SUBJECT: Final = r"\b(?:Input|String|List|Dictionary|Set|Tuple|Data|Value|URL|Bytes)"
_PLAIN: Final = tuple(
    (re.compile(pattern), words)
    for pattern, words in (
        (r"Input should be a valid integer\b.*", "it must be a whole number"),
        (r"Input should be a valid number\b.*", "it must be a number"),
        (r"Input should be greater than or equal to (\S+)", r"it must be \1 or more"),
        (r"Input should be less than or equal to (\S+)", r"it must be \1 or less"),
        (rf"{_SUBJECT} should be a valid ", "it must be a "),
        (rf"{_SUBJECT} should ", "it must "),
        (r" after validation\b", ""),
    )
)


def problem_of_field(problem: Mapping[str, Any], known: Iterable[str] = ()) -> str:
    """Returns what is wrong with a field, such as `period: it must be text`, without its value.

    Args:
        problem: one of `ValidationError.errors()`.
        known: the model's fields, among which the one nearest to an unknown field is named.
    """
    place = place_of(problem["loc"])
    says = _words(problem)
    if problem["type"] == "extra_forbidden" and len(problem["loc"]) == 1:
        says += _meant(place, known)
    return f"{place}: {says}" if place else says


def place_of(location: Iterable[int | str]) -> str:
    """Returns the path of a field, such as `lines.0.price`, with long names cut."""
    return ".".join(_cut(str(part)) for part in location)


def in_plain_words(message: str) -> str:
    """Returns a message of pydantic's, or text that ends with one, as people say it."""
    message = _LEAD.sub("", message, count=1)
    for pattern, words in _PLAIN:
        message = pattern.sub(words, message)
    return message


def _words(problem: Mapping[str, Any]) -> str:
    says = _SAYS.get(problem["type"])
    if says is not None:
        return says
    return in_plain_words(str(problem["msg"])).rstrip(".")


def _meant(name: str, known: Iterable[str]) -> str:
    meant = nearest(name, known)
    return "" if meant is None else f' (the nearest is "{meant}")'


def _cut(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[:LONGEST]}…"
