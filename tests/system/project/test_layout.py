"""Rules for the whole tree."""

from __future__ import annotations

import ast
import logging
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest

import temporal_tenancy
from saas.settings import Settings
from temporal_tenancy.core import errors

ROOT = Path(__file__).parents[3]
TESTS = ROOT / "tests"
LIBRARY = sorted((ROOT / "temporal_tenancy").rglob("*.py"))
OF_THE_SAAS = frozenset(
    {"activities", "benchmarks", "docs", "processes", "saas", "starter", "worker", "workflows"}
)
# They load their names on access.
PACKAGES = [
    temporal_tenancy,
    *(
        import_module(f"temporal_tenancy.{package}")
        for package in (
            *("cli", "control_plane", "core", "dead_letters", "fastapi"),
            *("lifecycle", "lint", "metering", "metrics", "outbox", "postgres", "sdk"),
        )
    ),
]
OWN_MODULES = {path.stem for path in ROOT.glob("*.py")}
TEXTS = sorted(
    path
    for path in (ROOT / "temporal_tenancy").rglob("*")
    if path.is_file() and path.suffix != ".pyc"
)


def names_of_the_application() -> re.Pattern[str]:
    """The project's programs, environment variables and modules, as names and as files."""
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


NAMES: Final = names_of_the_application()
# The attributes of a standard record, and those that each line has.
TAKEN: Final = {
    *vars(logging.makeLogRecord({})),
    *("message", "asctime", "event", "level", "logger", "timestamp", "exception"),
}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_the_export_list_is_sorted_and_every_name_on_it_is_there(package: ModuleType) -> None:
    # Constants first, like the linter.
    assert package.__all__ == sorted(package.__all__, key=lambda name: (not name.isupper(), name))
    for name in package.__all__:
        assert getattr(package, name)
    assert set(package.__all__) <= set(dir(package))


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_type_checkers_and_programs_are_given_the_same_names(package: ModuleType) -> None:
    tree = ast.parse(Path(package.__file__ or "").read_text())
    [checked] = [node for node in tree.body if isinstance(node, ast.If)]
    declared = {
        alias.name: (node.module or "").removeprefix(f"{package.__name__}.")
        for node in checked.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert declared == package._WHERE
    assert set(declared) == set(package.__all__)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_a_name_that_a_package_has_not_is_no_attribute_of_it(package: ModuleType) -> None:
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'x'"):
        package.x  # noqa: B018  # it is what is tried


@pytest.mark.parametrize(
    ("imported", "unloaded"),
    [
        ("temporal_tenancy", {"typer", "rich", "temporalio", "sqlalchemy"}),
        ("temporal_tenancy.everything", {"typer", "rich"}),
        ("temporal_tenancy.cli._hints", {"typer", "rich", "temporalio", "sqlalchemy"}),
        ("temporal_tenancy.cli._app", {"temporalio", "sqlalchemy"}),
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
        "import sys, temporal_tenancy.outbox; "
        "from temporal_tenancy import TenancyPlugin, TenantInput, current_tenant, "
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


def imported_by(path: Path) -> set[str]:
    """Returns the modules that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def is_of_the_saas(module: str) -> bool:
    """Returns whether a module is the reference SaaS's; the laptop's servers are not."""
    room, _, rest = module.partition(".")
    return room in OF_THE_SAAS or (room == "dev" and rest.partition(".")[0] not in ("", "devstack"))


def test_the_librarys_tests_import_nothing_of_the_saas_nor_does_what_they_import() -> None:
    waiting = set((TESTS / "library").rglob("*.py"))
    seen: set[Path] = set()
    while waiting:
        path = waiting.pop()
        seen.add(path)
        modules = imported_by(path)
        assert not {module for module in modules if is_of_the_saas(module)}, path
        files = {(ROOT / module.replace(".", "/")).with_suffix(".py") for module in modules}
        waiting |= {file for file in files if file.is_file() and file.is_relative_to(TESTS)} - seen
    assert len(seen) > 60


def test_the_librarys_tests_are_collected_where_there_is_no_saas() -> None:
    absent = sorted({*OF_THE_SAAS, "dev.sample_data", "dev.local_saas", "dev.demo"})
    program = (
        "import sys, pytest; sys.modules.update(dict.fromkeys(sys.argv[1:])); sys.exit("
        "pytest.main(['--collect-only', '-q', '-p', 'no:cacheprovider', 'tests/library']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *absent],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr


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
    # The standard library raises KeyError for most, and only when the line is written.
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
