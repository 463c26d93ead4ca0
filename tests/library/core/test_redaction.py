"""The words of errors: without credentials, rows and the texts of a job's input."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr
from temporalio.api.failure.v1 import Failure
from temporalio.converter import DataConverter
from temporalio.exceptions import ApplicationError

from temporal_tenancy.core.errors import TenancyError
from temporal_tenancy.core.redaction import (
    HIDDEN,
    TEXT_MIN_CHARACTERS,
    is_for_people,
    never_repeat,
    shown,
    traceback_of,
    with_causes,
    withholding,
    words_of,
)
from temporal_tenancy.sdk import _converter

CANARY = "canary-5d2e"


class Input(BaseModel):
    name: str
    tags: list[str] = []
    more: dict[str, Any] = {}
    secret: SecretStr = SecretStr("")


def raised(error: BaseException, *values: object, known: str = "", secret: str = "") -> str:
    """Returns the words of an error that has left an attempt with this input."""
    try:
        with withholding(values, known=known):
            never_repeat(secret)
            raise error
    except type(error) as caught:
        return words_of(caught)


@pytest.mark.parametrize(
    "values",
    [
        Input(name=CANARY),
        Input(name="", tags=[CANARY]),
        Input(name="", more={"a": [{"b": CANARY}]}),
        Input(name="", secret=SecretStr(CANARY)),
        {"a": (CANARY,)},
        [CANARY],
        CANARY,
    ],
)
def test_an_error_does_not_repeat_a_text_of_the_input(values: object) -> None:
    assert raised(KeyError(CANARY), values) == f"'{HIDDEN}'"


@given(text=st.text(min_size=TEXT_MIN_CHARACTERS, max_size=30), form=st.sampled_from("srja"))
def test_no_way_to_quote_a_text_shows_it(text: str, form: str) -> None:
    quoted = {"s": text, "r": repr(text), "j": json.dumps(text), "a": ascii(text)}[form]
    words = raised(ValueError(f"<{quoted}>"), Input(name=text))
    assert text not in words.replace(HIDDEN, "")


def test_what_everybody_knows_may_be_repeated() -> None:
    error = ValueError("no import 2013-04-07 of acme-air")
    words = raised(error, ["2013-04-07", "acme-air"], known="acme-air/x.y/2013-04-07")
    assert words == "no import 2013-04-07 of acme-air"


@pytest.mark.parametrize("kind", [ValueError, ApplicationError, TenancyError])
def test_no_error_repeats_a_credential_that_the_code_has_read(kind: type[Exception]) -> None:
    assert raised(kind(f"refused {CANARY}"), secret=CANARY) == f"refused {HIDDEN}"


def test_the_author_of_a_message_may_quote_the_input() -> None:
    assert raised(ApplicationError(f"no report {CANARY}"), [CANARY]) == f"no report {CANARY}"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (f"x://u:{CANARY}@h", "x://u:***@h"),
        (f"duplicate\nDETAIL:  Key (a)=({CANARY}) exists.", "duplicate\nDETAIL: ***"),
        (f"wrong\n[parameters: ('{CANARY}', 'a\n]')]", "wrong\n[parameters: ***]"),
    ],
)
def test_rows_and_credentials_are_withheld_by_their_shape(words: str, told: str) -> None:
    assert words_of(RuntimeError(words)) == told


def test_a_jobs_traceback_has_frames_and_types_and_no_quoted_words() -> None:
    try:
        try:
            int(CANARY)
        except ValueError as error:
            error.add_note(CANARY)
            raise ExceptionGroup(CANARY, [KeyError(CANARY), ApplicationError("told")]) from error
    except ExceptionGroup as error:
        text = traceback_of(error, of_a_job=True)
        outside = traceback_of(error, of_a_job=False)
    assert "invalid literal" not in text
    assert text.count(HIDDEN) == 3
    for wanted in ("ValueError: ***", "KeyError: ***", "ApplicationError: told", "direct cause"):
        assert wanted in text
    assert f"invalid literal for int() with base 10: '{CANARY}'" in outside


def test_causes_in_a_circle_end() -> None:
    first, second = ValueError("a"), KeyError("b")
    first.__cause__, second.__context__ = second, first
    assert with_causes(first) == [first, second]
    assert traceback_of(first, of_a_job=True).count("***") == 2


def test_the_failure_of_a_run_has_the_words_without_the_input() -> None:
    error = ValueError(f"no {CANARY}")
    cause = KeyError(CANARY)
    error.__cause__ = cause
    raised(error, [CANARY])
    converter = _converter.compose(DataConverter.default)
    failure = Failure()
    converter.failure_converter.to_failure(error, converter.payload_converter, failure)
    assert (failure.message, failure.cause.message) == (f"no {HIDDEN}", f"'{HIDDEN}'")
    assert failure.application_failure_info.type == "ValueError"


class Odd(Exception):
    """An error that accepts no mark and has no text."""

    __slots__ = ()

    def __setattr__(self, name: str, value: object) -> None:
        if name.startswith("__tenancy"):
            raise RuntimeError
        super().__setattr__(name, value)

    def __str__(self) -> str:
        raise RuntimeError


def test_an_error_of_any_class_can_leave() -> None:
    assert raised(Odd(), [CANARY]) == ""
    assert not is_for_people(Odd())


def test_a_log_field_has_no_content_of_an_object() -> None:
    assert shown("request", Input(name=CANARY)) == "<Input>"
    assert shown("error", RuntimeError(f"x://u:{CANARY}@h")) == "x://u:***@h"
