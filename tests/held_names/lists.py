"""The lists: what each is of, as it is committed, and how the code differs from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Final

from tests.held_names.answers import json_keys
from tests.held_names.commands import commands, exit_codes, problems
from tests.held_names.database import database_names
from tests.held_names.door import door_names
from tests.held_names.environment import environment_names
from tests.held_names.failures import failure_types
from tests.held_names.logs import log_names
from tests.held_names.payloads import payload_fields
from tests.held_names.temporal import temporal_names

FOLDER: Final = Path(__file__).parent / "lists"

LISTS: Final[dict[str, tuple[Callable[[], Iterable[str]], ...]]] = {
    "temporal": (temporal_names,),
    "payloads": (payload_fields,),
    "failures": (failure_types,),
    "database": (database_names,),
    "commands": (commands, exit_codes, problems),
    "answers": (json_keys,),
    "door": (door_names,),
    "environment": (environment_names,),
    "logs": (log_names,),
}
"""Each with what finds its names in the code."""


@cache
def in_code(name: str) -> tuple[str, ...]:
    """The names of a list, as the code has them now."""
    return tuple(sorted({line for find in LISTS[name] for line in find()}))


def committed(name: str) -> list[str]:
    """The names of a list, as they were when it was written; none where it never was."""
    path = _path(name)
    return path.read_text().splitlines() if path.exists() else []


def write() -> None:
    """Writes every list as the code is."""
    for name in LISTS:
        _path(name).write_text("".join(f"{line}\n" for line in in_code(name)))


def changes() -> list[str]:
    """What has gone, and what has come, a line each; none where the lists are those of the code."""
    return [
        f"{name}: {change}"
        for name in LISTS
        for change in differences(committed(name), in_code(name))
    ]


def differences(before: Sequence[str], now: Sequence[str]) -> list[str]:
    """`- name` for each that has gone, and then `+ name` for each that has come."""
    gone = [f"- {line}" for line in before if line not in set(now)]
    come = [f"+ {line}" for line in now if line not in set(before)]
    return gone + come


def _path(name: str) -> Path:
    return FOLDER / f"{name}.txt"
