"""Workflows of nobody's, which take workflow ids; a worker without the plugin runs them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from temporalio import workflow
from temporalio.workflow import ParentClosePolicy

QUEUE = "raw"


@dataclass
class Child:
    """A child that is to be started, and left behind."""

    type: str
    id: str
    given: dict[str, Any]


@workflow.defn(name="nobodys.parent")
class Parent:
    """Starts a child under any id."""

    @workflow.run
    async def run(self, child: Child) -> None:
        """Returns once it has started."""
        await workflow.start_child_workflow(
            child.type,
            child.given,
            id=child.id,
            task_queue="nobody",
            parent_close_policy=ParentClosePolicy.ABANDON,
        )


@workflow.defn(name="nobodys.thing")
class Thing:
    """Takes an id, and ends."""

    @workflow.run
    async def run(self) -> None:
        """Succeeds at once."""


WORKFLOWS = [Parent, Thing]
