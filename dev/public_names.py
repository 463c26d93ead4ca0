"""`python -m dev.public_names`: the library's public names, for docs/reference/library.md."""

from __future__ import annotations

import ast
import importlib
import inspect
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

LIBRARY: Final = Path(__file__).parents[1] / "temporal_tenancy"
PAGE: Final = Path(__file__).parents[1] / "docs" / "reference" / "library.md"
HEAD: Final = """\
# The library's public names

What an application imports from `temporal_tenancy`. Modules and names that are not here may change
in any release. The docstrings give arguments, units and errors. `{command}`
makes this page.
"""
COMMAND: Final = ".venv/bin/python -m dev.public_names --write"
MODULES: Final = ("temporal_tenancy.everything", "temporal_tenancy.testing.plugin")


def page() -> str:
    """Returns the page: a table of names for each package that exports any."""
    return HEAD.format(command=COMMAND) + "".join(_section(door) for door in doors())


def doors() -> list[str]:
    """Returns the packages and modules that export names, `temporal_tenancy` first."""
    packages = (path.parent.relative_to(LIBRARY.parent) for path in LIBRARY.rglob("__init__.py"))
    names = sorted([*(".".join(package.parts) for package in packages), *MODULES])
    return [name for name in names if getattr(importlib.import_module(name), "__all__", ())]


def _section(door: str) -> str:
    module = importlib.import_module(door)
    summary = (inspect.getdoc(module) or "").splitlines()[0]
    rows = "\n".join(f"| `{name}` | {purpose} |" for name, purpose in _rows(door))
    return f"\n## `{door}`\n\n{summary}\n\n| name | what it is |\n| --- | --- |\n{rows}\n"


def _rows(door: str) -> Iterator[tuple[str, str]]:
    module = importlib.import_module(door)
    for name in module.__all__:
        value = getattr(module, name)
        is_documented = inspect.isclass(value) or inspect.isroutine(value)
        text = inspect.getdoc(value) if is_documented else _text_below(door, name)
        yield name, (text or "").splitlines()[0].replace("|", r"\|")


def _text_below(door: str, name: str) -> str:
    """Returns the string below the assignment of a constant or a type."""
    module = importlib.import_module(door)
    if door not in MODULES:
        module = importlib.import_module(f"{door}.{module._WHERE[name]}")
    source = Path(module.__file__ or "").read_text()
    body = ast.parse(source).body
    for assignment, below in itertools.pairwise(body):
        target = _target(assignment)
        if isinstance(target, ast.Name) and target.id == name and isinstance(below, ast.Expr):
            return str(ast.literal_eval(below.value))
    raise ValueError(f"{door}.{name} has no docstring below it")


def _target(statement: ast.stmt) -> ast.expr | None:
    if isinstance(statement, ast.Assign):
        return statement.targets[0]
    return statement.target if isinstance(statement, ast.AnnAssign) else None


def main() -> int:
    """Prints the page, or writes it with `--write`."""
    if "--write" in sys.argv[1:]:
        PAGE.write_text(page())
    else:
        print(page(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
