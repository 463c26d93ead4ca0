"""What holds for the tree as a whole."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import temporal_tenancy
from temporal_tenancy.core import errors

ROOT = Path(__file__).parents[2]


def test_the_export_list_is_sorted_and_every_name_on_it_is_there() -> None:
    assert temporal_tenancy.__all__ == sorted(temporal_tenancy.__all__)
    for name in temporal_tenancy.__all__:
        assert getattr(temporal_tenancy, name)


def test_type_checkers_and_programs_are_given_the_same_names() -> None:
    tree = ast.parse((ROOT / "temporal_tenancy" / "__init__.py").read_text())
    [checked] = [node for node in tree.body if isinstance(node, ast.If)]
    told = {
        alias.name: (node.module or "").removeprefix("temporal_tenancy.")
        for node in checked.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert told == temporal_tenancy._WHERE
    assert set(told) == set(temporal_tenancy.__all__)


def test_isolation_alone_needs_no_database_library() -> None:
    program = (
        "import sys; from temporal_tenancy import TenancyPlugin, TenantInput, current_tenant, "
        "tenant_activity, tenant_job; TenancyPlugin(features=[]); "
        "print(*{'sqlalchemy', 'psycopg', 'alembic'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


def test_the_root_has_the_two_programs_and_nothing_imports_them() -> None:
    assert {path.name for path in ROOT.glob("*.py")} == {"starter.py", "worker.py"}
    for path in ROOT.glob("[a-z]*/**/*.py"):
        assert not re.search(r"^(from|import) (starter|worker)\b", path.read_text(), re.M), path


def test_every_failure_type_is_exported() -> None:
    failures = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.TenancyError)
    }
    assert failures <= set(temporal_tenancy.__all__)


@pytest.mark.parametrize(
    "failure", [e for e in vars(errors).values() if isinstance(e, type)
                and issubclass(e, errors.TenancyError)]
)  # fmt: skip
def test_a_failures_docstring_is_its_sentence(failure: type[errors.TenancyError]) -> None:
    assert failure().message == failure.__doc__
    assert failure("it is so.").sentence == f"{failure.__name__}: it is so."
    assert failure().type == failure.__name__
    assert failure().non_retryable
