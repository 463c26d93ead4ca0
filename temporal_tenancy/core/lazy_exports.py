"""A package's public names, loaded when they are asked for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_exports(
    package: str, where: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` of a package that imports its modules as late as it can.

    Who needs one of its names then needs only what that name's module needs: isolation alone does
    without SQLAlchemy.

    Args:
        package: the package's `__name__`.
        where: each public name, and the module inside the package that has it.
    """

    def __getattr__(name: str) -> Any:  # a module's attributes are of any type
        if name not in where:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f"{package}.{where[name]}"), name)
        vars(sys.modules[package])[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*vars(sys.modules[package]), *where})

    return __getattr__, __dir__
