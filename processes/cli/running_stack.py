"""Finds the servers that `make dev` runs, for commands whose environment names none."""

from __future__ import annotations

import fcntl
import os
import shlex
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Final

from temporal_tenancy.cli import NotReachable
from temporal_tenancy.core import number

VARIABLE: Final = "DEVSTACK"  # a stack's folder; its own file says so to the shell that sources it
OWNER: Final = "DATABASE_URL"  # for migrations alone: no command takes it from a file
_TREE: Final = Path(__file__).parents[2]
_FOLDER: Final = ".devstack"
_EXPORT: Final = "export "
# Any of these says which servers a person means, or what they need.
_DATABASES: Final = (OWNER, "TENANT_DATABASE_URL", "PLATFORM_DATABASE_URL", "RELAY_DATABASE_URL")
_TEMPORAL: Final = "TEMPORAL_"


def use_running_stack(environ: MutableMapping[str, str] | None = None) -> str | None:
    """Adds the addresses of the running stack to an environment that names no server.

    The stack is the one of this tree, or of the folder that DEVSTACK names. Variables
    that are set keep their values. An environment that names any server is left as it is: commands
    must not work on one system's database with another's Temporal.

    Args:
        environ: the environment to add to; None: this process's.

    Returns:
        A sentence that names the stack, if the working folder belongs to another one; None
        otherwise, and if nothing was added.

    Raises:
        NotReachable: DEVSTACK names a folder without a stack; or the stack has stopped or is about
            to start, or its file cannot be read.
    """
    environ = os.environ if environ is None else environ
    if any(value and _names_a_server(name) for name, value in environ.items()):
        return None
    folder = Path(environ.get(VARIABLE) or _TREE / _FOLDER).absolute()
    found = _addresses(folder)
    if found is None and environ.get(VARIABLE):
        raise NotReachable(f"{VARIABLE} names {folder}, in which no stack has run. Correct it.")
    if found is None:
        return None
    environ.update({name: value for name, value in found.items() if not environ.get(name)})
    here = _folder_of(Path.cwd())
    if here is None or here == folder:
        return None
    return f"The servers are those of {folder}, not of {here}."


def how_to_start(otherwise: str, environ: Mapping[str, str] | None = None) -> str:
    """Returns what to say below "X is not set", to be called before `use_running_stack`.

    Args:
        otherwise: what to say unless a stack runs that is not used because a server is named.
        environ: the environment; None: this process's.
    """
    environ = os.environ if environ is None else environ
    named = sorted(name for name, value in environ.items() if value and _names_a_server(name))
    folder = Path(environ.get(VARIABLE) or _TREE / _FOLDER).absolute()
    if not named or not _is_running(folder):
        return otherwise
    are, them = ("is", "it") if len(named) == 1 else ("are", "them")
    if len(named) > 2:
        named[1:] = [number(len(named) - 1, "other variable")]
    return (
        f"{' and '.join(named)} {are} set, so the command takes no address from "
        f"{folder / 'env'}, whose stack runs. Set what is missing too, or unset {them} to use that "
        "stack."
    )


def _names_a_server(variable: str) -> bool:
    return variable in _DATABASES or variable.startswith(_TEMPORAL)


def _addresses(folder: Path) -> Mapping[str, str] | None:
    """Returns the variables that a running stack has written; None where none ever ran."""
    file = folder / "env"
    try:
        text: str | None = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        text = None
    except (OSError, ValueError) as error:
        raise NotReachable(f"{file} cannot be read: {_reason(error)}.") from None
    runs = _is_running(folder)
    if text is None:
        if runs:
            raise NotReachable(f"the stack in {folder} is starting. Try again in a moment.")
        return None
    if not runs:
        raise NotReachable(
            f'the stack in {folder} has stopped. "make dev" starts it; or set the variables of '
            "other servers, such as PLATFORM_DATABASE_URL and TEMPORAL_ADDRESS."
        )
    try:
        return {name: value for name, value in _exports(text) if name != OWNER}
    except ValueError:
        raise NotReachable(
            f'{file} is damaged. Stop the stack, and start it again with "make dev".'
        ) from None


def _exports(text: str) -> Iterator[tuple[str, str]]:
    """Yields names and values of lines such as `export NAME='value'`; raises `ValueError`."""
    for line in text.splitlines():
        if not line.startswith(_EXPORT):
            continue
        for word in shlex.split(line.removeprefix(_EXPORT), comments=True):
            name, separator, value = word.partition("=")
            if not separator or not name.isidentifier():
                raise ValueError(line)
            yield name, value


def _is_running(folder: Path) -> bool:
    """Returns whether a stack holds the folder's lock, which ends with its process."""
    try:
        with (folder / "lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _folder_of(path: Path) -> Path | None:
    """Returns the stack's folder of the tree that a path is in, or None."""
    for each in (path, *path.parents):
        if (each / _FOLDER / "env").is_file():
            return each / _FOLDER
    return None


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else "it is no text"
