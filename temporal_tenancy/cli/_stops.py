"""Explains why a requested job has stopped."""

from __future__ import annotations

from typing import Final

from temporalio.client import WorkflowExecutionStatus

from temporal_tenancy.cli._commands import quoted_command
from temporal_tenancy.cli._messages import explain_message
from temporal_tenancy.cli._server_access import Servers
from temporal_tenancy.core.identifiers import WorkflowId
from temporal_tenancy.outbox import MessageStatus
from temporal_tenancy.sdk.lookups import if_known
from temporal_tenancy.sdk.taken_ids import WorkflowIdTaken, own_run

_OPEN: Final = (WorkflowExecutionStatus.RUNNING, WorkflowExecutionStatus.CONTINUED_AS_NEW)


async def why_stopped(connections: Servers, workflow_id: WorkflowId) -> str | None:
    """Returns why a tenant's unfinished job has stopped; None if it runs or waits for its turn."""
    hint = f"{quoted_command('explain', str(workflow_id))} says more."
    try:
        run = await if_known(own_run(connections.client, str(workflow_id), workflow_id.job))
    except WorkflowIdTaken as error:
        return error.sentence
    if run is None:
        message = await explain_message(connections.database, workflow_id)
        if message is not None and message["status"] == MessageStatus.DEAD_LETTER:
            return f"its job could not be started. {hint}"
        return None
    if run.status is None or run.status in _OPEN:
        return None
    return f"its run has ended ({run.status.name.lower()}). {hint}"
