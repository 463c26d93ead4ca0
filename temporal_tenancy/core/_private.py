"""Access to private names of the Temporal SDK: how its decorators mark a workflow's methods.

All other private names are read in `temporal_tenancy.sdk.private_names`, which `core` cannot
import. A test makes sure that no third module reads any.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any


def run_method(cls: type) -> Callable[..., Any] | None:
    """Returns the method of a workflow class that `@workflow.run` decorates, or None.

    Replace this once the SDK has a public way to get a workflow class's definition.
    """
    for _, function in inspect.getmembers(cls, inspect.isfunction):
        if hasattr(function, "__temporal_workflow_run"):
            return function
    return None


def updates_without_validator(cls: type) -> list[tuple[Any, Callable[..., Any]]]:
    """Returns the updates of a workflow class without a validator, as `(update, handler)` pairs.

    `update` is the decorated method, which has the public `validator()`; `handler` is the plain
    function. Replace this once the SDK has a public way to get a workflow class's definition.
    """
    found = []
    for _, update in inspect.getmembers(cls, lambda member: hasattr(member, "validator")):
        definition = getattr(update, "_defn", None)
        if definition is not None and definition.validator is None:
            found.append((update, definition.fn))
    return found
