"""Says what is wrong with a field, for people: pydantic's own messages are for programmers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from temporal_tenancy.core.nearest import nearest
from temporal_tenancy.core.words import number

LONGEST: Final = 80  # characters of a field's name, which the caller chose

_OBJECT: Final = "it must be an object"
_LIST: Final = "it must be a list"
_NUMBER: Final = "it must be a number"
_WHOLE: Final = "it must be a whole number"
_BOOLEAN: Final = "it must be true or false"
_DATE: Final = "it must be a date, as in 2026-12-24"
_TIME: Final = "it must be a time of day, as in 18:00:00"
_MOMENT: Final = "it must be a time, as in 2026-12-24T18:00:00Z"
_LENGTH: Final = "it must be a length of time, as in PT1H30M"
_PAST: Final = "it must be in the past"
_FUTURE: Final = "it must be in the future"
_URL: Final = "it must be a URL, as in https://example.com/path"
_ANOTHER: Final = "it must be another kind of value"
_MISSING: Final = "it is missing"
_UNKNOWN: Final = "there is no such field"
_FROZEN: Final = "it cannot be changed"
_AT_LEAST: Final = "it must have at least"
_AT_MOST: Final = "it must have at most"

# By pydantic's type of the error; {names} are those of its context.
_SAYS: Final = {
    "missing": _MISSING,
    "missing_argument": _MISSING,
    "missing_keyword_only_argument": _MISSING,
    "missing_positional_only_argument": _MISSING,
    "extra_forbidden": _UNKNOWN,
    "unexpected_keyword_argument": _UNKNOWN,
    "unexpected_positional_argument": _UNKNOWN,
    "multiple_argument_values": "it is given twice",
    "frozen_field": _FROZEN,
    "frozen_instance": _FROZEN,
    "default_factory_not_called": "it depends on a field that does not fit",
    "json_type": "it must be JSON as text",
    "recursion_loop": "it contains itself",
    "recursion_depth_exceeded": "it nests too deeply",
    "string_type": "it must be text",
    "string_sub_type": "it must be text",
    "string_unicode": "it must be text in Unicode",
    "string_not_ascii": "it must have only ASCII characters",
    "bytes_type": "it must be text",
    "bytes_invalid_encoding": "it must be encoded as {encoding}",
    "bool_type": _BOOLEAN,
    "bool_parsing": _BOOLEAN,
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_parsing_size": "it must be a whole number of fewer digits",
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": "it must be a finite number",
    "decimal_type": _NUMBER,
    "decimal_parsing": _NUMBER,
    "fraction_type": _NUMBER,
    "fraction_parsing": _NUMBER,
    "complex_type": _NUMBER,
    "complex_str_parsing": _NUMBER,
    "multiple_of": "it must be a multiple of {multiple_of}",
    "list_type": _LIST,
    "tuple_type": _LIST,
    "named_tuple_type": _LIST,
    "set_type": _LIST,
    "frozen_set_type": _LIST,
    "deque_type": _LIST,
    "iterable_type": _LIST,
    "iteration_error": "it cannot be read to its end",
    "set_item_not_hashable": "it must be neither a list nor an object",
    "dict_type": _OBJECT,
    "frozen_dict_type": _OBJECT,
    "ordered_dict_type": _OBJECT,
    "counter_type": _OBJECT,
    "mapping_type": _OBJECT,
    "model_type": _OBJECT,
    "model_attributes_type": _OBJECT,
    "dataclass_type": _OBJECT,
    "dataclass_exact_type": _OBJECT,
    "arguments_type": "it must be a list or an object",
    "invalid_key": "its names must be text",
    "no_such_attribute": "it has no {attribute}",
    "get_attribute_error": "it cannot be read",
    "none_required": "it must be null",
    "missing_sentinel_error": "it must be left out",
    "ellipsis_error": _ANOTHER,
    "needs_python_object": _ANOTHER,
    "is_instance_of": _ANOTHER,
    "is_subclass_of": _ANOTHER,
    "callable_type": "it must be a function",
    "date_type": _DATE,
    "date_parsing": _DATE,
    "date_from_datetime_parsing": _DATE,
    "date_from_datetime_inexact": "it must be a date without a time",
    "date_past": _PAST,
    "date_future": _FUTURE,
    "time_type": _TIME,
    "time_parsing": _TIME,
    "datetime_type": _MOMENT,
    "datetime_parsing": _MOMENT,
    "datetime_object_invalid": _MOMENT,
    "datetime_from_date_parsing": _MOMENT,
    "datetime_past": _PAST,
    "datetime_future": _FUTURE,
    "timezone_naive": "it must have no offset",
    "timezone_aware": "it must have an offset, as in 2026-12-24T18:00:00Z",
    "timezone_offset": "it must have another offset",
    "time_delta_type": _LENGTH,
    "time_delta_parsing": _LENGTH,
    "union_tag_invalid": "{discriminator} must be one of {expected_tags}",
    "union_tag_not_found": "it has no {discriminator}, which says its kind",
    "url_type": _URL,
    "url_parsing": _URL,
    "url_syntax_violation": _URL,
    "url_scheme": "it must be a URL that begins with {expected_schemes}",
    "uuid_type": "it must be a UUID",
    "uuid_parsing": "it must be a UUID",
    "uuid_version": "it must be a UUID of version {expected_version}",
}
# A limit of the context, and of what.
_COUNTS: Final = {
    "too_short": (_AT_LEAST, "min_length", "item"),
    "too_long": (_AT_MOST, "max_length", "item"),
    "string_too_short": (_AT_LEAST, "min_length", "character"),
    "string_too_long": (_AT_MOST, "max_length", "character"),
    "bytes_too_short": (_AT_LEAST, "min_length", "byte"),
    "bytes_too_long": (_AT_MOST, "max_length", "byte"),
    "url_too_long": (_AT_MOST, "max_length", "character"),
    "decimal_max_digits": (_AT_MOST, "max_digits", "digit"),
    "decimal_max_places": (_AT_MOST, "decimal_places", "decimal place"),
    "decimal_whole_digits": (_AT_MOST, "whole_digits", "digit"),
}
_POSITION: Final = re.compile(r" at line (\d+) column (\d+)")
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
    kind, context = problem["type"], problem.get("ctx") or {}
    if kind == "json_invalid":
        return _not_json(str(context.get("error", problem["msg"])))
    if kind in _COUNTS:
        words, limit, noun = _COUNTS[kind]
        if limit in context:
            return f"{words} {number(context[limit], noun)}"
    if kind in _SAYS:
        try:
            return _SAYS[kind].format_map(context)
        except KeyError:  # the error came without its context
            pass
    return in_plain_words(str(problem["msg"])).rstrip(".")


def _not_json(reason: str) -> str:
    """Returns where a text is no JSON; the parser's reason quotes none of it."""
    position = _POSITION.search(reason)
    if reason.startswith("EOF") or position is None:
        where = "ends too soon" if reason.startswith("EOF") else "is not"
    else:
        where = f"is not at line {position[1]}, column {position[2]}"
    return f'it must be JSON, as in {{"name": "value"}}, but {where}'


def _meant(name: str, known: Iterable[str]) -> str:
    meant = nearest(name, known)
    return "" if meant is None else f' (the nearest is "{meant}")'


def _cut(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[:LONGEST]}…"
