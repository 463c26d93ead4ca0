"""Finds the application that the commands work on."""

from __future__ import annotations

import importlib
import os
import re
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Final

from temporal_tenancy.cli._broken_code import ApplicationBroken, failed
from temporal_tenancy.cli._failures import Refusal
from temporal_tenancy.cli._not_reachable import NotReachable
from temporal_tenancy.cli.program import Application
from temporal_tenancy.core.errors import ConfigurationError, TenancyError
from temporal_tenancy.core.nearest import did_you_mean
from temporal_tenancy.core.words import number

GROUP: Final = "temporal_tenancy.application"  # of the entry point in the application's package
TABLE: Final = "temporal-tenancy"  # under [tool] in the pyproject.toml of the working directory
KEY: Final = "application"

_TARGET: Final = re.compile(r"(?P<module>\w+(?:\.\w+)*):(?P<attribute>\w+(?:\.\w+)*)")
_EXAMPLE: Final = '"myapp.tenancy:application"'
_HOW: Final = (
    f"Name it as module:attribute, such as {_EXAMPLE}: with --app before the command, in "
    f"TENANCY_APP, as {KEY} under [tool.{TABLE}] in this folder's pyproject.toml, or as an entry "
    f"point of the group {GROUP} in your package"
)


class ApplicationMissing(Refusal):
    """Nothing says which application the commands are for."""


class ApplicationAmbiguous(Refusal):
    """Several installed packages say which application the commands are for."""


class ApplicationNotFound(Refusal):
    """The place that is named holds no application."""


def find_application(target: str | None) -> Application:
    """Returns the application that a person, the working directory or a package names.

    The working directory becomes importable.

    Args:
        target: `module:attribute`, as a person names it; None: the first that is found of
            `[tool.temporal-tenancy]` in the working directory's pyproject.toml, and the entry
            point of the group `temporal_tenancy.application`.

    Raises:
        ApplicationMissing: nothing names one.
        ApplicationAmbiguous: two entry points name different ones.
        ApplicationNotFound: the module or attribute does not exist, or is no application.
        ApplicationBroken: the application's code raised an exception.
    """
    return _load(target or _of_the_folder() or _of_a_package())


def _of_the_folder() -> str | None:
    try:
        with Path("pyproject.toml").open("rb") as file:
            settings = tomllib.load(file).get("tool", {}).get(TABLE, {})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError) as error:
        raise ApplicationNotFound(
            f"pyproject.toml in {os.getcwd()} cannot be read: {error}."
        ) from error
    target = settings.get(KEY) if isinstance(settings, dict) else settings
    if isinstance(settings, dict) and target is None:
        for name in settings:
            if question := did_you_mean(name, [KEY]):
                raise ApplicationNotFound(
                    f"[tool.{TABLE}] in pyproject.toml has no setting {name!r}.{question}"
                )
    if target is not None and not isinstance(target, str):
        raise ApplicationNotFound(
            f"[tool.{TABLE}] {KEY} in pyproject.toml is no text. Write module:attribute, such as "
            f"{_EXAMPLE}."
        )
    return target


def _of_a_package() -> str:
    # Two installations of one package, such as an editable one, name the same.
    found = {entry.value: entry for entry in entry_points(group=GROUP)}
    if not found:
        raise ApplicationMissing(f"no application is named. {_HOW}.")
    if len(found) > 1:
        names = " and ".join(
            f'"{value}" of {entry.dist.name if entry.dist else entry.name}'
            for value, entry in sorted(found.items())
        )
        raise ApplicationAmbiguous(
            f"{number(len(found), 'installed package')} name an application: {names}. Choose one "
            "with --app before the command, or in TENANCY_APP."
        )
    return next(iter(found))


def _load(target: str) -> Application:
    named = _TARGET.fullmatch(target.strip())
    if named is None:
        raise ApplicationNotFound(
            f'"{target}" names no application. Write module:attribute, such as {_EXAMPLE}.'
        )
    if (folder := os.getcwd()) not in sys.path:
        sys.path.insert(0, folder)
    value = _imported(named["module"], target)
    for name in named["attribute"].split("."):
        try:
            value = getattr(value, name)
        except AttributeError as error:
            raise ApplicationNotFound(
                f'"{target}" names no application: {named["module"]} has no '
                f"{named['attribute']}. Define it there, as Application(...) or a function that "
                "returns one."
            ) from error
    if callable(value):
        value = _called(value, target)
    if not isinstance(value, Application):
        raise ApplicationNotFound(
            f'"{target}" is a {type(value).__name__}, and no Application. Make one with '
            "temporal_tenancy.cli.Application."
        )
    return value


def _imported(module: str, target: str) -> Any:  # any module
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module}.".startswith(f"{error.name}."):
            raise ApplicationNotFound(
                f'"{target}" names no application: there is no module {error.name}. Commands '
                f"import from this folder, {os.getcwd()}, and from what is installed."
            ) from error
        raise failed(f"importing {module}", error) from error
    except (Exception, SystemExit) as error:
        if _says_what_to_do(error):
            raise
        if _wants_django(error):
            raise ApplicationBroken(
                f"importing {module} needs Django's settings and models, which only manage.py "
                f'loads. It is a Django site: set TENANCY_APPLICATION = "{target}" in its settings '
                'and use "manage.py tenancy".'
            ) from error
        raise failed(f"importing {module}", error) from error


def _wants_django(error: BaseException) -> bool:
    """Returns whether an import failed because nothing has called `django.setup()`."""
    django_apps = sys.modules.get("django.apps")
    return (
        type(error).__module__ == "django.core.exceptions"
        and type(error).__name__ in ("AppRegistryNotReady", "ImproperlyConfigured")
        and django_apps is not None
        and not django_apps.apps.ready
    )


def _called(make: Any, target: str) -> Any:  # whatever a person names
    try:
        return make()
    except (Exception, SystemExit) as error:
        if _says_what_to_do(error):
            raise
        raise failed(f'calling "{target}"', error) from error


def _says_what_to_do(error: BaseException) -> bool:
    """Returns whether an error of the application's is one of the library's sentences."""
    return isinstance(error, NotReachable | ConfigurationError | TenancyError)
