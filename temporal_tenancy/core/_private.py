"""What `core` reads of the SDK that is not public: how decorators mark a workflow's methods.

All other such names are in `temporal_tenancy.sdk._private`, which `core` cannot import. A test sees
to it that no third module reads any.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any


def run_method(cls: type) -> Callable[..., Any] | None:
    """The method of a workflow class that `@workflow.run` is on; None where there is none.

    To be replaced by a public way to ask for a workflow class's definition.
    """
    for _, function in inspect.getmembers(cls, inspect.isfunction):
        if hasattr(function, "__temporal_workflow_run"):
            return function
    return None


def updates_without_validator(cls: type) -> list[tuple[Any, Callable[..., Any]]]:
    """The updates of a workflow class that have no validator, each with the handler's function.

    The first of a pair has the public `validator()`. To be replaced by a public way to ask for a
    workflow class's definition.
    """
    found = []
    for _, update in inspect.getmembers(cls, lambda member: hasattr(member, "validator")):
        definition = getattr(update, "_defn", None)
        if definition is not None and definition.validator is None:
            found.append((update, definition.fn))
    return found
