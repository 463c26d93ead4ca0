"""Which names are public, and which code uses them.

Public is what a package of the library exports: `temporal_tenancy` itself and the packages in it.
Application, benchmarks and docs import nothing else of it. A module that only its own package
imports says so by a leading underscore.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

import temporal_tenancy
from dev.public_names import COMMAND, MODULES, PAGE, page

ROOT = Path(__file__).parents[3]
LIBRARY = ROOT / "temporal_tenancy"
OUTSIDE = ("activities", "benchmarks", "dev", "docs", "processes", "saas", "workflows")
# What they measure is a part of the relay by itself, which has no door.
MEASURED: Final = {
    "benchmarks/outbox/claim_cost.py": {
        "temporal_tenancy.outbox.relay",
        "temporal_tenancy.outbox.relay.relay",
    },
    # The rules are written in the words that the library's own alerts have.
    "dev/monitoring/rules.py": {"temporal_tenancy.dead_letters.alert_words"},
    "benchmarks/outbox/outbox_stack.py": {"temporal_tenancy.outbox.relay.connections"},
    # It copies a prepared database two hundred times, and marks each copy as a store.
    "benchmarks/stores/store_migrations.py": {
        "temporal_tenancy.postgres.role_checks",
        "temporal_tenancy.postgres.store_roles",
    },
}
CODE: Final = re.compile(r"^```python\n(.*?)^```", re.M | re.S)


def sources() -> list[Path]:
    inside = [path for room in OUTSIDE for path in (ROOT / room).rglob("*.py")]
    return [*inside, ROOT / "starter.py", ROOT / "worker.py"]


def pages() -> list[Path]:
    return [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(tree: ast.AST) -> Iterator[tuple[str, str | None]]:
    """Returns each library module in an import, with the name; None for the whole module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if module.split(".")[0] == "temporal_tenancy":
                yield from ((module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "temporal_tenancy":
                    yield alias.name, None


@cache
def parsed(path: Path) -> ast.AST:
    return ast.parse(path.read_text())


def exported(module: str) -> set[str]:
    """Returns the public names of a package; empty if it has none."""
    found = importlib.import_module(module)
    is_door = module in MODULES or Path(found.__file__ or "").name == "__init__.py"
    return set(getattr(found, "__all__", ())) if is_door else set()


def not_public(tree: ast.AST, apart_from: set[str]) -> list[str]:
    return [
        f"{module} {name}"
        for module, name in imports_of(tree)
        if module not in apart_from and (name is None or name not in exported(module))
    ]


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_application_and_the_benchmarks_import_public_names_alone(path: Path) -> None:
    apart_from = MEASURED.get(str(path.relative_to(ROOT)), set())
    assert not_public(parsed(path), apart_from) == []


@pytest.mark.parametrize("path", pages(), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_pages_import_public_names_alone(path: Path) -> None:
    for sample in CODE.findall(path.read_text()):
        # `import temporal_tenancy` alone, as Django's migrations have it, names a door.
        assert set(not_public(ast.parse(sample), set())) <= {"temporal_tenancy None"}


def test_what_is_measured_inside_is_still_measured() -> None:
    for name, modules in MEASURED.items():
        assert modules <= {module for module, _ in imports_of(parsed(ROOT / name))}


def test_a_name_that_is_not_public_is_found() -> None:
    inside = ast.parse("from temporal_tenancy.outbox.relay.queue import claim")
    assert not_public(inside, set()) == ["temporal_tenancy.outbox.relay.queue claim"]
    unknown = ast.parse("from temporal_tenancy.outbox import claim")
    assert not_public(unknown, set()) == ["temporal_tenancy.outbox claim"]


def public() -> list[tuple[str, str]]:
    doors = [name_of(path) for path in LIBRARY.rglob("__init__.py")]
    return sorted((door, name) for door in doors for name in exported(door))


def test_about_sixty_names_do_for_those_who_write_jobs() -> None:
    assert 50 <= len(temporal_tenancy.__all__) <= 80


@pytest.mark.parametrize(("door", "name"), public(), ids=".".join)
def test_a_public_name_is_no_module_too(door: str, name: str) -> None:
    # Which of the two an import finds would depend on earlier imports.
    assert not (ROOT.joinpath(*door.split(".")) / f"{name}.py").exists()
    assert not (ROOT.joinpath(*door.split(".")) / name).is_dir()


@pytest.mark.parametrize(("door", "name"), public(), ids=".".join)
def test_a_public_name_says_what_it_is(door: str, name: str) -> None:
    value = getattr(importlib.import_module(door), name)
    if inspect.isclass(value) or inspect.isroutine(value):
        assert inspect.getdoc(value)


def package_of(module: str) -> str:
    return module.rpartition(".")[0]


def imported_modules() -> dict[str, set[str]]:
    """Returns each library module with the packages that import it or one of its names."""
    found: dict[str, set[str]] = {}
    modules = {name_of(path) for path in LIBRARY.rglob("*.py")}
    for path in [*LIBRARY.rglob("*.py"), *sources()]:
        importer = name_of(path) if path.name == "__init__.py" else package_of(name_of(path))
        for module, name in imports_of(parsed(path)):
            whole = f"{module}.{name}"
            found.setdefault(whole if whole in modules else module, set()).add(importer)
    return found


def test_a_module_that_only_its_own_package_imports_has_an_underscore() -> None:
    found = imported_modules()
    wrong = []
    for path in LIBRARY.rglob("*.py"):
        module, package = name_of(path), package_of(name_of(path))
        if path.name in ("__init__.py", "__main__.py") or module in MODULES:
            continue
        if {"migrations", "alembic_branch", "management"} & set(path.parts):
            continue
        if module == "temporal_tenancy.django.apps":  # which Django finds by its name
            continue
        elsewhere = found.get(module, set()) - {package}
        if path.stem.startswith("_"):
            elsewhere = {each for each in elsewhere if not each.startswith(f"{package}.")}
        if bool(elsewhere) == path.stem.startswith("_"):
            wrong.append(f"{module}: imported in {sorted(elsewhere) or 'its own package alone'}")
    assert wrong == []


def test_the_page_has_every_public_name() -> None:
    assert PAGE.read_text() == page(), f"`{COMMAND}` makes it anew"
