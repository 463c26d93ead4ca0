"""Whatever pydantic finds wrong with a field is said as people say it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from typing import Annotated, Any, Final, Literal, get_args
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    AnyUrl,
    AwareDatetime,
    Base64Bytes,
    BaseModel,
    ConfigDict,
    Field,
    FutureDate,
    HttpUrl,
    Json,
    NaiveDatetime,
    PastDatetime,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import PydanticKnownError, core_schema

from temporal_tenancy.core.field_problems import problem_of_field

# A value for each name in the contexts of pydantic's errors.
CONTEXT: Final[Mapping[str, Any]] = {
    "actual_length": 3,
    "attribute": "size",
    "class": "Invoice",
    "class_name": "Invoice",
    "decimal_places": 2,
    "discriminator": "'kind'",
    "encoding": "base64",
    "encoding_error": "Invalid symbol 45, offset 0.",
    "error": "input is too short",
    "expected": "'daily' or 'monthly'",
    "expected_schemes": "'http' or 'https'",
    "expected_tags": "'a', 'b'",
    "expected_version": 7,
    "field_type": "List",
    **dict.fromkeys(("ge", "gt", "le", "lt", "multiple_of"), 3),
    "max_digits": 9,
    "max_length": 2,
    "method_name": "isinstance",
    "min_length": 1,
    "pattern": "^[a-z]+$",
    "tag": "s3cret",
    "tz_actual": 3600,
    "tz_expected": 0,
    "whole_digits": 7,
}
# Words of a programmer, and of pydantic's messages.
LEAKS: Final = re.compile(
    r"\b(?:Input|input|String|List|Data|Value|should|valid|validation|dictionary|array|instance|"
    r"datetime|timedelta|parse|parsing|tuple|Python|python|sentinel|validator|timezone|extract|"
    r"discriminator|ident|EOF|None|Recursion|Decimal|Invalid|Unable|Error|error|s3cret)\b"
)


def is_plain(sentence: str) -> bool:
    return (
        LEAKS.search(sentence) is None
        and sentence.startswith(("it ", "its ", "there ", "'kind' "))
        and not sentence.endswith((".", ",", ":", " "))
    )


@pytest.mark.parametrize("kind", get_args(core_schema.ErrorType))
def test_each_error_that_pydantic_knows_has_a_plain_sentence(kind: Any) -> None:
    if kind in ("value_error", "assertion_error"):
        return  # their words are those of whoever wrote the check
    error = PydanticKnownError(kind, dict(CONTEXT))
    problem = {"type": kind, "loc": (), "msg": error.message(), "ctx": error.context or {}}
    sentence = problem_of_field(problem)
    assert is_plain(sentence), sentence
    assert problem_of_field({**problem, "ctx": None})  # some callers have no context


class Daily(BaseModel):
    kind: Literal["daily"]


class Monthly(BaseModel):
    kind: Literal["monthly"]


class Format(StrEnum):
    CSV = "csv"


class Named(BaseModel):
    name: str


class Everything(BaseModel):
    """A field of each kind that the input of a job may have."""

    model_config = ConfigDict(extra="forbid")

    text: Annotated[str, Field(min_length=2, max_length=3, pattern="^[a-z]*$")] = "ab"
    flag: bool = False
    count: Annotated[int, Field(gt=0, lt=5, multiple_of=2)] = 2
    share: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.0
    price: Annotated[Decimal, Field(max_digits=3, decimal_places=1)] = Decimal(1)
    part: Fraction = Fraction(1)
    day: date = date(2013, 4, 1)
    later: FutureDate | None = None
    at: AwareDatetime | None = None
    before: PastDatetime | None = None
    local: NaiveDatetime | None = None
    moment: datetime | None = None
    clock: time | None = None
    length: timedelta = timedelta()
    id: UUID | None = None
    site: HttpUrl | None = None
    link: AnyUrl | None = None
    blob: Base64Bytes = b""
    raw: Annotated[bytes, Field(max_length=2)] = b""
    nested: Json[Any] = None
    nothing: None = None
    format: Format = Format.CSV
    choice: Literal["a", "b"] = "a"
    several: Annotated[list[int], Field(min_length=1, max_length=2)] = [1]
    pair: tuple[int, str] = (1, "")
    distinct: set[str] = set()
    frozen: frozenset[int] = frozenset()
    by_name: dict[str, int] = {}
    named: Named | None = None
    of_a_kind: Annotated[Daily | Monthly, Field(discriminator="kind")] = Daily(kind="daily")


JSON: Final = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.sampled_from([0.5, -1.5, 1e300, 10**4_000])
    | st.sampled_from(["", "a", "abcd", "2013", "2013-04-01", "2013-04-01T00:00:00", "9" * 40])
    | st.sampled_from(["http://", "x://y", "\x00", "é", "{", "hello", "-", "25:00:00", "P1Y1"])
    | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["kind", "name", "x"]), inner, max_size=2)
    ),
    max_leaves=4,
)


@given(st.dictionaries(st.sampled_from([*Everything.model_fields, "other"]), JSON, max_size=4))
def test_whatever_an_input_holds_is_refused_in_plain_words(given: dict[str, Any]) -> None:
    for validate in (Everything.model_validate, in_json):
        try:
            validate(given)
        except ValidationError as error:
            for problem in error.errors(include_url=False, include_input=False):
                sentence = problem_of_field({**problem, "loc": ()})
                assert is_plain(sentence), (problem, sentence)


def in_json(given: dict[str, Any]) -> object:
    return Everything.model_validate_json(TypeAdapter(dict[str, Any]).dump_json(given))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("hello", 'it must be JSON, as in {"name": "value"}, but is not at line 1, column 1'),
        ("{nope}", 'it must be JSON, as in {"name": "value"}, but is not at line 1, column 2'),
        ('{"a":', 'it must be JSON, as in {"name": "value"}, but ends too soon'),
        (b"\xff", 'it must be JSON, as in {"name": "value"}, but is not at line 1, column 1'),
    ],
)
def test_a_text_that_is_no_json_is_told_where_and_what_is_expected(
    text: str | bytes, sentence: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        Everything.model_validate_json(text)
    assert problem_of_field(caught.value.errors()[0]) == sentence


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("at", "x", "at: it must be a time, as in 2026-12-24T18:00:00Z"),
        ("at", "2013-04-01T00:00:00", "at: it must have an offset, as in 2026-12-24T18:00:00Z"),
        ("day", "tomorrow", "day: it must be a date, as in 2026-12-24"),
        ("text", "a", "text: it must have at least 2 characters"),
        ("several", [], "several: it must have at least 1 item"),
        ("price", "12.34", "price: it must have at most 3 digits"),
        ("id", "x", "id: it must be a UUID"),
        ("choice", "c", "choice: it must be 'a' or 'b'"),
        ("count", 6, "count: it must be less than 5"),
        ("site", "ftp://x", "site: it must be a URL that begins with 'http' or 'https'"),
    ],
)
def test_a_field_is_told_what_it_must_be(field: str, value: object, sentence: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Everything.model_validate({field: value})
    assert problem_of_field(caught.value.errors()[0]) == sentence


def test_the_tag_that_somebody_gave_is_not_repeated() -> None:
    with pytest.raises(ValidationError) as caught:
        Everything.model_validate({"of_a_kind": {"kind": "s3cret"}})
    sentence = problem_of_field(caught.value.errors()[0])
    assert sentence == "of_a_kind: 'kind' must be one of 'daily', 'monthly'"
