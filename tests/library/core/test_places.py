"""Errors name the place in the application's code, and never one in a library or in importlib."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from temporal_tenancy.core.places import (
    expression_of,
    names_place,
    place,
    place_of,
    place_of_caller,
    with_place,
)

SOURCE = """
import asyncio, json, importlib

class Sample:
    @property
    def broken(self): raise ValueError("x")

def call(): return json.loads("{")
def attribute(): return Sample().broken
def lines():
    return json.loads(
        "{",
        parse_int=int,
    )
def imports(): import evening_that_is_not_there
def imports_from(): from evening_that_is_not_there import x
async def awaits(): return await asyncio.wait_for(no(), 1)
async def no(): raise ValueError("no")
def computed(): return (json.loads if True else None)("{")
lambdas = lambda: json.loads("{")
"""


@pytest.fixture
def evening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Loads the sample, as an application's file or as one that is installed."""

    def load(folder: str) -> ModuleType:
        where = tmp_path / folder
        where.mkdir(parents=True)
        (where / "evening.py").write_text(SOURCE)
        monkeypatch.syspath_prepend(str(where))
        monkeypatch.delitem(sys.modules, "evening", raising=False)
        return importlib.import_module("evening")

    return load


def error_of(call: Callable[[], Any]) -> BaseException:
    try:
        result = call()
        if asyncio.iscoroutine(result):
            asyncio.run(result)
    except Exception as error:
        return error
    raise AssertionError("it does not fail")


@pytest.mark.parametrize(
    ("name", "place", "expression"),
    [
        ("call", "evening.py, line 8, in call", "json.loads"),
        ("lines", "evening.py, line 11, in lines", "json.loads"),
        ("imports", "evening.py, line 15, in imports", "evening_that_is_not_there"),
        ("imports_from", "evening.py, line 16, in imports_from", "evening_that_is_not_there"),
        ("awaits", "evening.py, line 18, in no", None),
        ("computed", "evening.py, line 19, in computed", None),
        ("lambdas", "evening.py, line 20", "json.loads"),
    ],
)
@pytest.mark.parametrize("folder", ["app", "lib/site-packages"])
def test_a_place_is_the_applications_own(
    evening: Callable[[str], ModuleType], folder: str, name: str, place: str, expression: str | None
) -> None:
    module = evening(folder)
    error = error_of(getattr(module, name))
    if folder == "app":
        assert (place_of(error), expression_of(error)) == (place, expression)
    else:  # the test's own frame is the innermost of an application's
        assert str(place_of(error)).startswith("tests/library/core/test_places.py, line ")


@pytest.mark.parametrize(
    ("filename", "shown"),
    [
        ("app/workflows/evening.py", "workflows/evening.py, line 3"),
        ("app/jobs/lib/evening.py", "evening.py, line 3"),  # `lib` is a folder to import from, too
        ("elsewhere/private/evening.py", "evening.py, line 3"),
    ],
)
def test_a_place_is_told_from_where_it_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, filename: str, shown: str
) -> None:
    for folder in ("app", "app/jobs/lib"):
        monkeypatch.syspath_prepend(str(tmp_path / folder))
    assert place(str(tmp_path / filename), 3) == shown


def test_a_sentence_names_one_place_at_most() -> None:
    once = with_place("it failed.", "evening.py, line 3, in run")
    assert once == "it failed. (evening.py, line 3, in run)"
    assert with_place(once, "other.py, line 1") == once
    assert with_place("", "evening.py, line 3") == "(evening.py, line 3)"
    assert with_place("it failed.", None) == "it failed."
    assert names_place(once)
    assert not names_place("x = 3 (of 4), line 2.")


def test_a_call_knows_where_it_was_made() -> None:
    place = place_of_caller()
    assert place is not None
    assert place.endswith("in test_a_call_knows_where_it_was_made")
