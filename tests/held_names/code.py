"""The project's own code: its modules as they are imported, and as they are written."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = ("activities", "processes", "saas", "temporal_tenancy", "workflows")
UNKNOWN: Final = object()
"""What an expression is whose value depends on more than its module."""


@dataclass(frozen=True)
class Module:
    """One module."""

    name: str
    there: ModuleType
    tree: ast.Module

    def value(self, node: ast.AST | None, **names: Any) -> Any:
        """What an expression of names, attributes and constants is; `UNKNOWN` where that varies.

        `names` are known beside the module's own.
        """
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            return names.get(node.id, vars(self.there).get(node.id, UNKNOWN))
        if isinstance(node, ast.Attribute):
            return getattr(self.value(node.value, **names), node.attr, UNKNOWN)
        return UNKNOWN

    def calls(self) -> Iterator[ast.Call]:
        """Every call in it."""
        return (node for node in ast.walk(self.tree) if isinstance(node, ast.Call))


@cache
def modules() -> tuple[Module, ...]:
    """Every module of the project, without its programs and its migrations."""
    return tuple(
        Module(name, import_module(name), ast.parse(path.read_text()))
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        if "migrations" not in path.relative_to(ROOT).parts and path.name != "__main__.py"
        for name in [dotted(path)]
    )


def dotted(path: Path) -> str:
    """The name of the module that a file of the project is."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def is_own(value: Any) -> bool:
    """Whether a class or function is the project's, and no test's."""
    module = getattr(value, "__module__", None) or ""
    return module.partition(".")[0] in PACKAGES


def texts() -> Iterator[str]:
    """The texts that modules have as constants, SQL too."""
    for module in modules():
        for value in vars(module.there).values():
            text = getattr(value, "text", value)
            if isinstance(text, str):
                yield text


def called(node: ast.Call) -> str:
    """The last word of what is called."""
    if isinstance(node.func, ast.Attribute):
        return node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else ""


def argument(node: ast.Call, position: int, name: str) -> ast.expr | None:
    """An argument, by its name or its position; None: it is not given."""
    for each in node.keywords:
        if each.arg == name:
            return each.value
    return node.args[position] if len(node.args) > position else None


def keys(node: ast.AST | None) -> list[str]:
    """The texts that are keys of a dict display."""
    if not isinstance(node, ast.Dict):
        return []
    return [
        key.value
        for key in node.keys
        if isinstance(key, ast.Constant) and isinstance(key.value, str)
    ]
