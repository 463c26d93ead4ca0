"""Starts a probe's workflow: by the relay for a message, or by a doctor itself."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from temporalio.client import Client
from temporalio.common import Priority, WorkflowIDConflictPolicy, WorkflowIDReusePolicy

from temporal_tenancy.core.identifiers import PLATFORM, WorkflowId
from temporal_tenancy.core.jobs import JobPriority
from temporal_tenancy.core.scope import PlatformScope, enter
from temporal_tenancy.outbox.probe.workflow import LIFETIME, NAME, REASON, ProbeInput

RPC_TIMEOUT: Final = timedelta(seconds=10)
# A worker that takes the task and does not answer: then another one gets it.
TASK_TIMEOUT: Final = timedelta(seconds=2)


def probe_id(key: str) -> str:
    """Returns the workflow id of the probe with this key."""
    return str(WorkflowId(PLATFORM, NAME, key))


async def start_probe(client: Client, key: str, probe: ProbeInput) -> None:
    """Starts a probe's workflow on the queue that it asks.

    Raises:
        WorkflowAlreadyStartedError: it was started before.
        RPCError: the server does not answer, or refuses the start.
    """
    with enter(PlatformScope(REASON)):
        await client.start_workflow(
            NAME,
            probe,
            id=probe_id(key),
            task_queue=probe.queue,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
            execution_timeout=LIFETIME,
            task_timeout=TASK_TIMEOUT,
            priority=Priority(priority_key=JobPriority.URGENT),
            rpc_timeout=RPC_TIMEOUT,
        )
