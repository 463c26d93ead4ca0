"""The words by which failures are told apart: in Temporal, in dead letters, in answers."""

from __future__ import annotations

from collections.abc import Iterator

from temporalio.exceptions import (
    ApplicationError,
    CancelledError,
    TerminatedError,
    TimeoutError,
    TimeoutType,
)

from temporal_tenancy.core.failures import type_of
from tests.held_names.code import argument, called, modules


def failure_types() -> Iterator[str]:
    """The project's own exceptions, and what those of Temporal are called."""
    for module in modules():
        for name, value in vars(module.there).items():
            if (
                isinstance(value, type)
                and issubclass(value, BaseException)
                and value.__module__ == module.name
                and not name.startswith("_")
            ):
                yield value.__name__
        for call in module.calls():
            if called(call) == "ApplicationError":
                kind = module.value(argument(call, 99, "type"))
                if isinstance(kind, str):
                    yield kind
    yield type_of(ApplicationError(""))
    yield type_of(CancelledError())
    yield type_of(TerminatedError(""))
    for ended in TimeoutType:
        yield type_of(TimeoutError("", type=ended, last_heartbeat_details=[]))
