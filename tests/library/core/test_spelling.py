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
from temporal_tenancy.core.errors import ConfigurationError
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
    with pytest.raises(ConfigurationError, match=r"'zzz'\. Use one of: handler, limit, parallel\."):
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
