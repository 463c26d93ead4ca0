"""A package's public names, imported on first use."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

# What an extra of the distribution brings. The core has none of it.
_EXTRA_OF: Final = {
    **dict.fromkeys(("alembic", "greenlet", "psycopg", "rich", "sqlalchemy", "typer"), "postgres"),
    **dict.fromkeys(("asgiref", "django"), "django"),
    **dict.fromkeys(("fastapi", "starlette"), "fastapi"),
    **dict.fromkeys(("prometheus_client",), "metrics"),
    **dict.fromkeys(("pytest", "pytest_asyncio"), "testing"),
    **dict.fromkeys(("limits", "redis"), "redis"),
    "opentelemetry": "tracing",
    "sentry_sdk": "tracing",
}


def lazy_exports(
    package: str, where: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Returns the `__getattr__` and `__dir__` of a package that imports its modules on first use.

    Importing one name then needs only that name's dependencies: isolation alone works without
    SQLAlchemy. A name whose dependencies are not installed raises `MissingExtra`.

    Args:
        package: the package's `__name__`.
        where: the public names, each with the module inside the package that defines it.
    """

    def __getattr__(name: str) -> Any:  # a module attribute can have any type
        if name not in where:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        try:
            module = import_module(f"{package}.{where[name]}")
        except ModuleNotFoundError as error:
            missing = (error.name or "").partition(".")[0]
            if missing not in _EXTRA_OF:
                raise
            raise _missing_extra(f"{package}.{name}", missing) from error
        value = getattr(module, name)
        vars(sys.modules[package])[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*vars(sys.modules[package]), *where})

    return __getattr__, __dir__


def require_installed(wanted: str, *packages: str) -> None:
    """For a package of modules that are imported directly, and need what an extra brings.

    Args:
        wanted: the package's `__name__`.
        packages: what its modules import.

    Raises:
        MissingExtra: one of `packages` is not installed.
    """
    for package in packages:
        if package not in sys.modules and find_spec(package) is None:
            raise _missing_extra(wanted, package)


def _missing_extra(wanted: str, package: str) -> ImportError:
    # Imported here, because it loads the SDK.
    from temporal_tenancy.core.errors import MissingExtra

    return MissingExtra(wanted, package, _EXTRA_OF[package])
