"""Which activities a job's code refers to, read from its byte code."""

from __future__ import annotations

import dis
import inspect
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final

from temporal_tenancy.core.activities import mark_of
from temporal_tenancy.core.jobs import Job
from temporal_tenancy.sdk._private import activity_definition

_LIBRARY: Final = "temporal_tenancy."
_LOADS_GLOBAL: Final = frozenset({"LOAD_GLOBAL", "LOAD_NAME"})
_LOADS_ATTRIBUTE: Final = frozenset({"LOAD_ATTR", "LOAD_METHOD"})


def activities_called(job: Job) -> dict[str, Callable[..., Any]]:
    """Returns the declared activities that a job's class refers to, by name.

    It finds those that the class's functions, and functions of its module that these use, refer to
    by a global name, as in `execute_activity(delete_old_events, …)` or
    `execute_activity(trimming.delete_old_events, …)`. It does not find an activity that is called
    by a text. The library's own jobs refer to what its features serve, and are left out.
    """
    cls = job.workflow
    if cls.__module__.startswith(_LIBRARY):
        return {}
    pending: list[Any] = [value for base in cls.__mro__[:-1] for value in vars(base).values()]
    seen: set[FunctionType] = set()
    found: dict[str, Callable[..., Any]] = {}
    while pending:
        function = inspect.unwrap(pending.pop())
        if not isinstance(function, FunctionType) or function in seen:
            continue
        seen.add(function)
        for value in _references(function.__code__, function.__globals__):
            if not callable(value):
                continue
            if mark_of(value) is not None:
                found[activity_definition(value).name or value.__name__] = value
            elif getattr(value, "__module__", None) == cls.__module__:
                pending.append(value)
    return found


def _references(code: CodeType, names: dict[str, Any]) -> Iterator[Any]:
    """Yields what `code` and the functions inside it refer to by a global name or its attribute."""
    value: Any = None
    for instruction in dis.get_instructions(code):
        if instruction.opname in _LOADS_GLOBAL:
            value = names.get(str(instruction.argval))
        elif instruction.opname in _LOADS_ATTRIBUTE and isinstance(value, ModuleType | type):
            value = getattr(value, str(instruction.argval), None)
        else:
            value = None
            continue
        yield value
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _references(constant, names)
