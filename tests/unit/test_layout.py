"""What holds for the tree as a whole."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import temporal_tenancy
from temporal_tenancy.core import errors

ROOT = Path(__file__).parents[2]
LIBRARY = sorted((ROOT / "temporal_tenancy").rglob("*.py"))
OWN_MODULES = {path.stem for path in ROOT.glob("*.py")}


def imported_by(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import)
             for alias in node.names}  # fmt: skip
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    return {name.partition(".")[0] for name in names}


def test_the_export_list_is_sorted_and_every_name_on_it_is_there() -> None:
    assert temporal_tenancy.__all__ == sorted(temporal_tenancy.__all__)
    for name in temporal_tenancy.__all__:
        assert getattr(temporal_tenancy, name)


def test_every_failure_type_is_exported() -> None:
    failures = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.TenancyError)
    }
    assert failures <= set(temporal_tenancy.__all__)


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_library_imports_none_of_the_single_modules_beside_it(path: Path) -> None:
    # Packages are held apart by the import contract, which single modules escape.
    assert not imported_by(path) & OWN_MODULES


@pytest.mark.parametrize(
    "failure", [e for e in vars(errors).values() if isinstance(e, type)
                and issubclass(e, errors.TenancyError)]
)  # fmt: skip
def test_a_failures_docstring_is_its_sentence(failure: type[errors.TenancyError]) -> None:
    assert failure().message == failure.__doc__
    assert failure("it is so.").sentence == f"{failure.__name__}: it is so."
    assert failure().type == failure.__name__
    assert failure().non_retryable
