"""Temporal as the HTTP door needs it: to ask about runs, and to cancel them.

It is connected to when that is first asked for: jobs are taken in while Temporal is away.
"""

from __future__ import annotations

import asyncio
from contextvars import Context

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from processes.connect import connect_client, reaching
from temporal_tenancy.outbox.requests import run_status
from temporal_tenancy.postgres.database import Database


class Runs:
    """The runs of the tenants' jobs. Each call raises `NotReachable` where Temporal is away."""

    def __init__(self, database: Database, client: Client | None = None) -> None:
        """`client` is connected to what the environment names if not given."""
        self._database = database
        self._client = client
        self._connecting: asyncio.Task[Client] | None = None

    async def status(self, workflow_id: str) -> WorkflowExecutionStatus | None:
        """How its latest run stands; None where there is none of the job's, or it was forgotten."""
        with reaching():
            return await run_status(await self._connected(), workflow_id)

    async def cancel(self, workflow_id: str) -> bool:
        """Asks its run to end; False where none runs."""
        try:
            with reaching():
                handle = (await self._connected()).get_workflow_handle(workflow_id)
                await handle.cancel()
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return False
            raise
        return True

    async def _connected(self) -> Client:
        if self._client is None:
            if self._connecting is None or self._connecting.done():
                connecting = connect_client(self._database)
                # In a context of its own: it is everybody's.
                self._connecting = asyncio.create_task(connecting, context=Context())
            # One who waits too may go away; the others wait still.
            self._client = await asyncio.shield(self._connecting)
        return self._client
