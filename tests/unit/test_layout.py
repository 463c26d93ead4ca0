"""What holds for the tree as a whole."""

from __future__ import annotations

import ast
import logging
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest

import temporal_tenancy
import temporal_tenancy.cli
from saas.settings import Settings
from temporal_tenancy.core import errors

ROOT = Path(__file__).parents[2]
LIBRARY = sorted((ROOT / "temporal_tenancy").rglob("*.py"))
OWN_MODULES = {path.stem for path in ROOT.glob("*.py")}
TEXTS = sorted(
    path
    for path in (ROOT / "temporal_tenancy").rglob("*")
    if path.is_file() and path.suffix != ".pyc"
)


def names_of_the_application() -> re.Pattern[str]:
    """Its programs, its environment's variables, and its modules, as names and as files."""
    modules = [
        path.relative_to(ROOT).with_suffix("")
        for package in ("activities", "dev", "processes", "saas", "workflows")
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__init__.py"
    ]
    names = [
        *(f"{name}.py" for name in OWN_MODULES),
        *map(str.upper, Settings.model_fields),
        *(".".join(module.parts) for module in modules),
        *(f"{module.as_posix()}.py" for module in modules),
    ]
    return re.compile(rf"(?<![\w./])({'|'.join(map(re.escape, names))})(?!\w)")


LAZY: Final = [temporal_tenancy, temporal_tenancy.cli]
NAMES: Final = names_of_the_application()
# What a record of the standard library's has by itself, and what each line has.
TAKEN: Final = {
    *vars(logging.makeLogRecord({})),
    *("message", "asctime", "event", "level", "logger", "timestamp", "exception"),
}


@pytest.mark.parametrize("package", LAZY)
def test_the_export_list_is_sorted_and_every_name_on_it_is_there(package: ModuleType) -> None:
    assert package.__all__ == sorted(package.__all__)
    for name in package.__all__:
        assert getattr(package, name)


@pytest.mark.parametrize("package", LAZY)
def test_type_checkers_and_programs_are_given_the_same_names(package: ModuleType) -> None:
    assert package.__file__ is not None
    tree = ast.parse(Path(package.__file__).read_text())
    [checked] = [node for node in tree.body if isinstance(node, ast.If)]
    told = {
        alias.name: (node.module or "").removeprefix(f"{package.__name__}.")
        for node in checked.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert told == package._WHERE
    assert set(told) == set(package.__all__)


@pytest.mark.parametrize(
    ("imported", "unloaded"),
    [
        ("temporal_tenancy", {"typer", "rich", "temporalio", "sqlalchemy"}),
        ("temporal_tenancy.everything", {"typer", "rich"}),
        ("temporal_tenancy.cli.hints", {"typer", "rich", "temporalio", "sqlalchemy"}),
        ("temporal_tenancy.cli.app", {"temporalio", "sqlalchemy"}),
    ],
)
def test_nothing_is_loaded_that_is_not_asked_for(imported: str, unloaded: set[str]) -> None:
    program = f"import sys, {imported}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert not unloaded & set(done.stdout.split())


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_commands_alone_need_the_terminals_libraries(path: Path) -> None:
    if not path.is_relative_to(ROOT / "temporal_tenancy" / "cli"):
        assert not re.search(r"^\s*(from|import) (typer|rich)\b", path.read_text(), re.M)


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


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_library_says_nothing_of_the_application(path: Path) -> None:
    assert not NAMES.findall(path.read_text())


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_library_logs_by_the_standard_library(path: Path) -> None:
    assert "structlog" not in path.read_text()


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_log_lines_field_has_no_name_that_a_record_has_by_itself(path: Path) -> None:
    # The standard library raises KeyError for most of them, and only when the line is written.
    fields = {
        key.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.keyword)
        and node.arg == "extra"
        and isinstance(node.value, ast.Dict)
        for key in node.value.keys
        if isinstance(key, ast.Constant)
    }
    assert not fields & TAKEN


@pytest.mark.parametrize(
    "failure", [e for e in vars(errors).values() if isinstance(e, type)
                and issubclass(e, errors.TenancyError)]
)  # fmt: skip
def test_a_failures_docstring_is_its_sentence(failure: type[errors.TenancyError]) -> None:
    assert failure().message == failure.__doc__
    assert failure("it is so.").sentence == f"{failure.__name__}: it is so."
    assert failure().type == failure.__name__
    assert failure().non_retryable
