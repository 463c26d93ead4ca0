"""Engines are created in one place, and the tenant setting is never set for a session."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PACKAGES = (
    "temporal_tenancy",
    "workflows",
    "activities",
    "saas",
    "processes",
    "dev/sample_data",
)
SOURCES = [
    *ROOT.glob("*.py"),
    *(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")),
]
ALLOWED = {
    "create_async_engine": {"temporal_tenancy/postgres/_engines.py"},  # of the runtime roles
    "create_engine": {
        "temporal_tenancy/postgres/migrations.py",  # of the owner
        "temporal_tenancy/testing/leaks/_observing.py",  # of a superuser, in tests
    },
    "async_engine_from_config": set(),
    "engine_from_config": set(),
}


def callers(function: str) -> Iterator[str]:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func
                if (name.id if isinstance(name, ast.Name) else name) == function:
                    yield path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("function", ALLOWED)
def test_engines_are_made_in_one_place(function: str) -> None:
    assert set(callers(function)) <= ALLOWED[function]


def test_the_tenant_is_never_set_for_longer_than_a_transaction() -> None:
    for path in SOURCES:
        source = path.read_text().lower()
        source = source.replace("set_config('app.tenant_id', '', false", "")  # takes it away
        assert not re.search(r"\bset\s+(session\s+)?app\.", source), path
        assert not re.search(r"set_config\([^)]*false", source), path
