"""Untrusted text is parsed, or rejected with one type of error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from pydantic import BaseModel
from pydantic_core import from_json, to_json

from temporal_tenancy.core.errors import InvalidPayload
from temporal_tenancy.core.inputs import TenantInput, read_input
from temporal_tenancy.core.payloads import (
    DEPTH,
    DIGITS,
    READABLE,
    NotReadable,
    PayloadUnreadable,
    read,
    read_message,
    require_finite,
    require_storable,
)
from tests.fixtures.hostile_json import TEXTS


class Anything(TenantInput):
    data: Any = None
    number: float = 0.0
    count: int = 0
    text: str = ""
    items: list[Any] = []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": [1, -2.5, null, true, "ü"]}', {"a": [1, -2.5, None, True, "ü"]}),
        ("1" * DIGITS, int("1" * DIGITS)),
        ("1e308", 1e308),
        ("5e-324", 5e-324),
        ("0." + "0" * 323 + "5", 5e-324),
        (r'"\ud83d\ude00 \\ud800"', "\U0001f600 \\ud800"),
        ('"' + "[" * 1_000 + '"', "[" * 1_000),
        ("[[], {}]" + " " * (READABLE - 8), [[], {}]),
        ('\ufeff{"a": "\ufeff"}', {"a": "\ufeff"}),  # as editors on Windows save it
    ],
)
def test_what_is_json_within_the_limits_is_read(text: str, value: Any) -> None:
    assert read(text) == value


@pytest.mark.parametrize("nested", ["[", '{"a":'])
def test_it_is_read_to_the_depth_that_is_stated_and_no_deeper(nested: str) -> None:
    close = "]" if nested == "[" else "}"
    read(nested * DEPTH + "0" + close * DEPTH)
    with pytest.raises(NotReadable, match="nests deeper than 100 levels"):
        read(nested * (DEPTH + 1) + "0" + close * (DEPTH + 1))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "more than the database can write"),
        ("{", "is not JSON: Expecting property name enclosed in double quotes at line 1, column 2"),
        ("[" * 100_000, "nests deeper"),
        ("1" * (DIGITS + 1), "more than 1,000 digits"),
        ("1e5000", "more than 1,000 digits"),
        ("1e-99999999999999999999", "more than 1,000 digits"),
        ("0." + "0" * DIGITS, "more than 1,000 digits"),
        ("1e400", "not finite"),
        ("1" + "0" * 400 + ".5", "not finite"),
        ("NaN", "not finite"),
        ("-Infinity", "not finite"),
        (r'{"\uD800": 1}', "half a surrogate pair"),
        ('"\ud800"', "half a surrogate pair"),
        ('"' + "x" * READABLE + '"', "longer than 262,144 characters"),
    ],
)
def test_what_is_more_is_refused_and_says_why(text: str, why: str) -> None:
    with pytest.raises(NotReadable, match=why):
        read(text)
    with pytest.raises(PayloadUnreadable, match=why) as refused:
        read_message(text, what="the payload of x.y")
    assert refused.value.message.startswith("the payload of x.y cannot be read: it ")
    assert refused.value.non_retryable


@given(text=TEXTS)
@settings(max_examples=200)
def test_whatever_is_read_survives_all_that_is_done_with_it(text: str) -> None:
    try:
        value = read(text)
    except NotReadable:
        return
    assert repr(value)
    assert read(json.dumps(value, allow_nan=False)) == value
    assert from_json(to_json(value)) == value
    for field in ("data", "number", "count", "text", "items"):
        try:
            model = read_input(Anything, {"tenant_id": "acme", field: value}, what="the payload")
        except InvalidPayload:
            continue
        sent = to_json(model)
        assert to_json(Anything.model_validate_json(sent)) == sent


@pytest.mark.parametrize("text", ["Infinity", "-INFINITY", "nan", "1e999"])
def test_a_text_that_is_read_as_no_finite_number_is_refused(text: str) -> None:
    """It would be written as null."""
    with pytest.raises(InvalidPayload, match="finite number"):
        read_input(Anything, {"tenant_id": "acme", "number": text}, what="the payload")


@pytest.mark.parametrize(
    "text",
    [
        r'"a\u0000b"',
        r'"\\\u0000"',
        "[" + ",".join(["1e+300"] * 1_000) + "]",
        "[" + ",".join(["5e-324"] * 1_000) + "]",
        "[" + "0," * (READABLE // 3) + "0]",
    ],
)
def test_what_would_not_come_back_is_not_stored(text: str) -> None:
    with pytest.raises(NotReadable):
        require_storable(text)


def test_a_backslash_before_what_looks_like_a_nul_is_text() -> None:
    require_storable(r'"a\\u0000b"')


class Inner(BaseModel):
    rate: float


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan")])
def test_a_number_that_json_has_not_is_found_wherever_it_is(number: float) -> None:
    for value in (number, [number], {"a": ({"b": number},)}, {number}, Inner(rate=number)):
        with pytest.raises(NotReadable, match="not finite"):
            require_finite(value.model_dump() if isinstance(value, Inner) else value)
    require_finite({"a": [1.5, "inf", None, 10**400]})
