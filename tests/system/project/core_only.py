"""An application of the core alone, without a database: the tests run it from the wheel."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta

from temporalio import workflow
from temporalio.client import Client, WorkflowFailureError
from temporalio.worker import Worker

from temporal_tenancy import (
    Plan,
    TenancyPlugin,
    Tenant,
    TenantInput,
    TenantMismatch,
    TenantStatus,
    current_tenant,
    tenant_activity,
    tenant_job,
)

QUEUE = "core-only"


class Directory:
    """A `TenantDirectory` of one tenant."""

    async def find(self, tenant_id: str) -> Tenant | None:
        found = await self.find_many([tenant_id])
        return found[0] if found else None

    async def find_many(self, tenant_ids: Collection[str]) -> Sequence[Tenant]:
        acme = Tenant(
            id="acme",
            name="Acme",
            status=TenantStatus.ACTIVE,
            status_since=datetime.now(UTC),
            plan=Plan(id="standard"),
        )
        return [acme] if acme.id in tenant_ids else []

    async def page(
        self,
        *,
        after: str | None = None,
        limit: int,
        statuses: Collection[TenantStatus] | None = None,
        time_zones: Collection[str] | None = None,
    ) -> Sequence[Tenant]:
        return await self.find_many(["acme"])


@tenant_activity
async def greeting(name: str) -> str:
    return f"{name} of {current_tenant()}"


class GreetInput(TenantInput):
    name: str


@tenant_job("people.greet", queue=QUEUE)
class Greet:
    """Greets a person of the tenant."""

    @workflow.run
    async def run(self, job: GreetInput) -> str:
        return await workflow.execute_activity(
            greeting, job.name, start_to_close_timeout=timedelta(seconds=30)
        )


async def main(address: str, namespace: str) -> dict[str, str]:
    """Runs the job, and tries to run it for another tenant; returns what came of both."""
    plugin = TenancyPlugin(directory=Directory())
    client = await Client.connect(address, namespace=namespace, plugins=[plugin])
    came: dict[str, str] = {}
    async with Worker(client, task_queue=QUEUE, workflows=[Greet], activities=[greeting]):
        came["result"] = await client.execute_workflow(
            Greet.run,
            GreetInput(tenant_id="acme", name="Ada"),
            id="acme/people.greet/1",
            task_queue=QUEUE,
        )
        # From a client without the plugin, so that the worker is what refuses it.
        raw = await Client.connect(address, namespace=namespace)
        try:
            await raw.execute_workflow(
                "people.greet",
                {"tenant_id": "acme", "name": "Ada"},
                id="globex/people.greet/1",
                task_queue=QUEUE,
            )
        except WorkflowFailureError as error:
            came["refused"] = str(getattr(error.cause, "type", error.cause))
    assert came["refused"] == TenantMismatch.__name__
    return came


def run() -> None:
    """Prints what came of it, as JSON."""
    print(json.dumps(asyncio.run(main(*sys.argv[1:]))))
