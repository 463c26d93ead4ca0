"""The HTTP door's access to Temporal: the status of runs, and cancelling them.

It connects on first use, so that the door accepts jobs while Temporal is away.
"""

from __future__ import annotations

import asyncio
from contextvars import Context

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from processes.connect import connect_client, reaching
from temporal_tenancy import Database
from temporal_tenancy.outbox import run_status


class Runs:
    """The runs of tenants' jobs. Each call raises `NotReachable` if Temporal does not answer."""

    def __init__(self, database: Database, client: Client | None = None) -> None:
        """`client` is, by default, connected to the server that the environment names."""
        self._database = database
        self._client = client
        self._connecting: asyncio.Task[Client] | None = None

    async def status(self, workflow_id: str) -> WorkflowExecutionStatus | None:
        """Returns the status of the job's latest run, or None if Temporal has none (any more)."""
        with reaching():
            return await run_status(await self._connected(), workflow_id)

    async def cancel(self, workflow_id: str) -> bool:
        """Requests cancellation of the run; returns False if none is running."""
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
                # In a fresh context, as all callers share the connection.
                self._connecting = asyncio.create_task(connecting, context=Context())
            # If one waiting request is cancelled, the others go on waiting.
            self._client = await asyncio.shield(self._connecting)
        return self._client
