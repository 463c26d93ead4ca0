"""A misspelled argument of a declaration is refused in one sentence, with the nearest name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from temporal_tenancy import (
    Coalesce,
    Database,
    Feature,
    PlatformSchedule,
    ScheduledJob,
    SqlTenantDirectory,
    TenancyPlugin,
    platform_job,
    tenant_job,
)
from temporal_tenancy.cli.program import Application, Login
from temporal_tenancy.core.directory import TenantStatus
from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.jobs import JobPriority
from temporal_tenancy.core.periods import Period
from temporal_tenancy.core.spelling import spelled
from temporal_tenancy.fastapi import install_tenancy
from temporal_tenancy.outbox import RelayOptions
from temporal_tenancy.postgres import protect_sql, protect_statements
from temporal_tenancy.postgres.pool_share import PoolShare
from temporal_tenancy.postgres.row_security import protect
from temporal_tenancy.postgres.session_limits import SessionLimits

DECLARATIONS = [
    *(Application, Coalesce, Feature, Login, PlatformSchedule, ScheduledJob, TenancyPlugin),
    *(Database, PoolShare, RelayOptions, SessionLimits, SqlTenantDirectory),
    *(install_tenancy, platform_job, protect, protect_sql, protect_statements, tenant_job),
]


@pytest.mark.parametrize("declaration", DECLARATIONS, ids=lambda each: each.__name__)
def test_each_misspelled_argument_names_the_one_that_was_meant(
    declaration: Callable[..., Any],
) -> None:
    for name in inspect.signature(declaration).parameters:
        wrong = name[:-1] if len(name) > 4 else f"{name}x"
        with pytest.raises(ConfigurationError) as caught:
            declaration(**{wrong: None})
        told = f"{declaration.__name__}() has no argument '{wrong}'. Did you mean \"{name}\"?"
        assert str(caught.value) == told


def test_what_is_like_no_argument_lists_them() -> None:
    with pytest.raises(
        ConfigurationError, match=r"'zzz'\. Use one of: handler, limit, parallel, together\."
    ):
        Coalesce(zzz=1)  # type: ignore[call-arg]


def test_a_spelled_declaration_stays_what_it_was() -> None:
    @spelled
    @dataclass(frozen=True)
    class Point:
        x: int
        y: int = 2

    assert Point(1) == Point(x=1, y=2)
    assert str(inspect.signature(Point)) == "(x: 'int', y: 'int' = 2) -> None"
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        Point()  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("enumeration", "name", "says"),
    [
        (JobPriority, "HIHG", 'JobPriority has no member HIHG. Did you mean "HIGH"?'),
        (Period, "MONHT", 'Period has no member MONHT. Did you mean "MONTH"?'),
        (TenantStatus, "ACTVE", 'TenantStatus has no member ACTVE. Did you mean "ACTIVE"?'),
        (Period, "CENTURY", "Period has no member CENTURY. Use one of: MONTH, DAY."),
    ],
)
def test_a_misspelled_member_says_which_was_meant_and_where(
    enumeration: type, name: str, says: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        getattr(enumeration, name)
    place = f"(tests/library/core/test_spelling.py, line {caught.traceback[0].lineno + 1}, in "
    assert str(caught.value).startswith(f"{says} {place}")
    assert not hasattr(enumeration, name)
    assert getattr(enumeration, "_missing_", None) is not None


def test_a_table_with_a_schema_in_its_name_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"Name the schema apart: 'bills', schema='shop'"):
        protect_sql("shop.bills")
    assert '"shop"."b.c"' in protect_sql("b.c", schema="shop")
