"""The fields of what crosses a server: inputs and results of workflows, activities, messages."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

from tests.held_names.shapes import shape
from tests.held_names.temporal import activity_types, workflow_types


def payload_fields() -> Iterator[str]:
    """`workflow a.job takes .name`, and what it returns."""
    for run in workflow_types():
        yield from _of(f"workflow {run.name}", run.arg_types, run.ret_type)
        for kind, messages in (
            ("signal", run.signals),
            ("query", run.queries),
            ("update", run.updates),
        ):
            for message in messages.values():
                what = f"{kind} {message.name} of {run.name}"
                yield from _of(what, message.arg_types, getattr(message, "ret_type", None))
    for task in activity_types():
        yield from _of(f"activity {task.name}", task.arg_types, task.ret_type)


def _of(what: str, takes: Sequence[Any] | None, returns: Any) -> Iterator[str]:
    if takes is None:
        raise TypeError(f"{what} has parameters without annotations")
    for position, each in enumerate(takes):
        number = f" {position + 1}" if len(takes) > 1 else ""
        yield from (f"{what} takes{number} {path}".rstrip() for path in shape(each, "validation"))
    if returns not in (None, type(None), inspect.Signature.empty):
        for path in shape(returns, "serialization"):
            yield f"{what} returns {path}".rstrip()
