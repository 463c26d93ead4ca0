"""What others hold on to is called what it was."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import pytest
from pydantic import BaseModel, Field

from tests.held_names.lists import FOLDER, LISTS, committed, differences, in_code
from tests.held_names.shapes import shape

HOW = (
    "Others hold on to these names: see CONTRIBUTING.md. Where it is meant, write the lists anew: "
    ".venv/bin/python -m tests.held_names --write"
)


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Part(BaseModel):
    colour: Colour
    inner: list[Part] = []
    length: int = Field(alias="size", default=0)


class Whole(BaseModel):
    parts: dict[str, Part]
    first: Part | None
    places: tuple[int, Part]


@pytest.mark.parametrize("name", LISTS)
def test_the_names_that_others_hold_on_to_are_those_of_the_list(name: str) -> None:
    changes = differences(committed(name), in_code(name))
    if changes:
        pytest.fail("\n".join((f"{name}.txt", *changes, HOW)), pytrace=False)


def test_every_list_is_one_that_is_compared() -> None:
    assert {path.stem for path in FOLDER.glob("*")} == set(LISTS)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("temporal", "workflow billing.cycle"),
        ("temporal", "header tenancy-scope"),
        ("temporal", "memo tenancy-message"),
        ("temporal", "patch temporal-tenancy-search-attributes"),
        ("payloads", "workflow billing.cycle takes .tenant_id"),
        ("payloads", "activity next_page returns .candidates[].tenant_id"),
        ("payloads", "query progress of contacts.import returns .rows"),
        ("failures", "TenantSuspended"),
        ("failures", "Timeout.START_TO_CLOSE"),
        ("database", "table ledger.tenant_id"),
        ("database", "table outbox_messages.status = dead_letter"),
        ("database", "channel tenancy_outbox"),
        ("database", "setting app.tenant_id"),
        ("commands", "starter.py dead-letters replay --canary"),
        ("commands", "worker.py --relay"),
        ("commands", "exit code 3"),
        ("answers", "starter.py .error"),
        ("answers", "starter.py ticks show .missed"),  # of a dict display
        ("answers", "starter.py ticks show .not_started"),
        ("answers", "starter.py explain .succeeded"),  # a count by an enumeration's values
        ("answers", "starter.py api-keys create .prefix"),  # a field of a dataclass
        ("answers", "starter.py ticks catch-up .failures"),
        ("door", "GET /imports/{import_id} 200 application/json .rejected"),
        ("door", "problem TenantSuspended 403"),
        ("environment", "TENANT_DATABASE_URL"),
        ("logs", "event dead_letter.recorded"),
        ("logs", "alert outbox.age .minutes"),
    ],
)
def test_names_of_each_kind_are_found_in_the_code(name: str, line: str) -> None:
    assert line in in_code(name)


@pytest.mark.parametrize(
    ("before", "now", "shown"),
    [
        (["a", "b"], ["a", "b"], []),
        (["a", "b"], ["a", "c"], ["- b", "+ c"]),
        (["a"], ["a", "b"], ["+ b"]),
        (["a"], [], ["- a"]),
    ],
)
def test_what_has_gone_and_what_has_come_is_shown(
    before: Sequence[str], now: Sequence[str], shown: Sequence[str]
) -> None:
    assert differences(before, now) == shown


def test_a_shape_has_every_field_wherever_it_is_once_around() -> None:
    part = ["", ".colour", ".colour = blue", ".colour = red", ".inner", ".inner[]", ".size"]
    assert sorted(set(shape(Part, "validation"))) == part
    assert set(shape(Whole, "validation")) == {
        *("", ".parts", ".first", ".places", ".places[]"),
        *(f".parts{{}}{path}" for path in part),
        *(f".first{path}" for path in part),
        *(f".places[]{path}" for path in part),
    }
