"""A package's public names, imported on first use."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_exports(
    package: str, where: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Returns the `__getattr__` and `__dir__` of a package that imports its modules on first use.

    Importing one name then needs only that name's dependencies: isolation alone works without
    SQLAlchemy.

    Args:
        package: the package's `__name__`.
        where: the public names, each with the module inside the package that defines it.
    """

    def __getattr__(name: str) -> Any:  # a module attribute can have any type
        if name not in where:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f"{package}.{where[name]}"), name)
        vars(sys.modules[package])[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*vars(sys.modules[package]), *where})

    return __getattr__, __dir__
