"""The name that somebody meant."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.nearest import LONGEST, did_you_mean, nearest, refuse_misspelled

KNOWN = ("billing.cycle", "analytics.aggregate", "retention.enforce", "Acme")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("biling.cycle", "billing.cycle"),
        ("billing.cylce", "billing.cycle"),
        ("BILLING.CYCLE", "billing.cycle"),
        ("acme", "Acme"),
        ("nothing-like-it", None),
        ("", None),
        ("billing.cycle" * LONGEST, None),
    ],
)
def test_the_nearest_name_is_found_whatever_its_case(name: str, meant: str | None) -> None:
    assert nearest(name, KNOWN) == meant


def test_the_question_begins_with_a_blank_or_is_empty() -> None:
    assert did_you_mean("biling.cycle", KNOWN) == ' Did you mean "billing.cycle"?'
    assert did_you_mean("nothing-like-it", KNOWN) == ""


@pytest.mark.parametrize(
    ("environ", "is_refused"),
    [
        ({"TENANT_DATABSE_URL": "x"}, True),
        ({"TENANT_DATABSE_URL": "x", "TENANT_DATABASE_URL": "y"}, False),
        ({"DATABASE_URI": "x", "RELAY_DATABASE_URL": "y", "STORAGE_URI": "z"}, False),
        ({}, False),
    ],
)
def test_a_variable_is_refused_if_it_is_nearly_a_name_that_is_not_set(
    environ: dict[str, str], is_refused: bool
) -> None:
    names = ("DATABASE_URL", "TENANT_DATABASE_URL", "STORAGE_URL")
    expected = pytest.raises(ConfigurationError, match="TENANT_DATABSE_URL")
    with expected if is_refused else nullcontext():
        refuse_misspelled(names, environ)


def test_every_misspelled_variable_is_named() -> None:
    environ = {"TENANT_DATABSE_URL": "x", "RELAY_DATABASE_ULR": "y"}
    with pytest.raises(ConfigurationError) as refused:
        refuse_misspelled(("RELAY_DATABASE_URL", "TENANT_DATABASE_URL", "STORAGE_URL"), environ)
    assert str(refused.value) == (
        "the environment has RELAY_DATABASE_ULR and TENANT_DATABSE_URL, which are not settings. "
        'Did you mean "RELAY_DATABASE_URL" and "TENANT_DATABASE_URL"?'
    )
