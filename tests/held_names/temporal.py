"""The names that Temporal keeps: types, messages, ids, queues, and what a run carries."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from typing import Any

from temporalio import activity, workflow
from temporalio.common import SearchAttributeKey

from activities import ACTIVITIES
from saas.queues import Queue
from temporal_tenancy.core.identifiers import WorkflowId
from temporal_tenancy.core.jobs import job_of
from temporal_tenancy.everything import everything
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.sdk import header
from temporal_tenancy.ticks.schedules import with_those_of
from tests.held_names.code import UNKNOWN, Module, argument, called, keys, modules
from workflows import WORKFLOWS
from workflows.schedules import SCHEDULES

URL = "postgresql://{role}:unused@localhost/unused"  # nothing connects
THE_SERVERS = "Temporal"  # search attributes of its own begin with it


@cache
def workflow_types() -> tuple[workflow._Definition, ...]:
    """Those of the application and of the library."""
    of_library = (cls for feature in _features() for cls in feature.workflows)
    return tuple(workflow._Definition.must_from_class(cls) for cls in (*WORKFLOWS, *of_library))


@cache
def activity_types() -> tuple[activity._Definition, ...]:
    """Those of the application and of the library."""
    of_library = (function for feature in _features() for function in feature.activities)
    functions = (*ACTIVITIES, *of_library)
    return tuple(activity._Definition.must_from_callable(each) for each in functions)


def _features() -> Any:
    return everything(
        Database(
            tenant_url=URL.format(role="tenancy_tenant"),
            platform_url=URL.format(role="tenancy_platform"),
        )
    )


def temporal_names() -> Iterator[str]:
    """One line each."""
    for defined in workflow_types():
        yield f"workflow {defined.name}"
        for kind, messages in (
            ("signal", defined.signals),
            ("query", defined.queries),
            ("update", defined.updates),
        ):
            yield from (f"{kind} {name} of {defined.name}" for name in messages)
        yield from _job(defined.cls)
    yield from (f"activity {defined.name}" for defined in activity_types())
    yield from (f"queue {queue}" for queue in Queue)
    for scheduled in with_those_of(SCHEDULES, everything()):
        yield f"schedule {scheduled.id} starts {scheduled.workflow_id}"
    yield f"workflow id {WorkflowId('a-tenant', 'a.job', 'a-key')}"
    yield f"header {header.NAME}"
    yield f"header {header.NAME} .{header.PLATFORM_FIELD}"
    for module in modules():
        yield from _search_attributes(module)
        yield from _in_histories(module)


def _search_attributes(module: Module) -> Iterator[str]:
    for value in vars(module.there).values():
        if isinstance(value, SearchAttributeKey) and not value.name.startswith(THE_SERVERS):
            yield f"search attribute {value.name}"


def _job(cls: type) -> Iterator[str]:
    job = job_of(cls)
    if job is not None:
        yield f"job {job.name} in {job.queue}"
        yield from (f"job {job.name} needs {feature}" for feature in [job.feature] if feature)
        yield from (f"job {job.name} by {period}" for period in [job.period] if period)


def _in_histories(module: Module) -> Iterator[str]:
    """The patches that runs have in their histories, and the keys of their memos."""
    memos = list[Any]()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call):
            if called(node) in ("patched", "deprecate_patch"):
                yield f"patch {module.value(argument(node, 0, 'id'))}"
            memo = argument(node, 99, "memo")
            memos += [ast.Constant(key) for key in keys(memo)]
        if isinstance(node, ast.Assign):
            memos += [
                target.slice
                for target in node.targets
                if isinstance(target, ast.Subscript)
                and isinstance(target.value, ast.Name)
                and target.value.id == "memo"
            ]
    for key in memos:
        if module.value(key) is not UNKNOWN:
            yield f"memo {module.value(key)}"
