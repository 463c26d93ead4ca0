"""Fan-outs over made-up tenants of the control plane, for the questions about them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from sqlalchemy.dialects.postgresql import insert
from temporalio.client import Client

from benchmarks.shared.no_op import OUR_QUEUE, WINDOW
from temporal_tenancy import Database, FanOut, FanOutInput, TenantStatus
from temporal_tenancy.control_plane import TenantRow

JOB: Final = "bench.ours"


async def add_tenants(database: Database, tenants: Sequence[str], status: TenantStatus) -> None:
    """Adds tenants in one status, by which a fan-out can choose them."""
    rows = [
        {"id": tenant, "name": tenant, "status": status, "plan_id": "standard"}
        for tenant in tenants
    ]
    async with database.platform_session("make up tenants") as session:
        await session.execute(insert(TenantRow), rows)


def request(tick: str, status: TenantStatus, *, job: str = JOB, **fields: int) -> FanOutInput:
    """What a fan-out over the tenants of one status takes."""
    return FanOutInput(job=job, tick=tick, statuses=[status], **{"window": WINDOW, **fields})


async def children_per_second(client: Client, asked: FanOutInput, tenants: int) -> float:
    """Runs a fan-out over so many tenants, start to result."""
    began = time.perf_counter()
    result = await client.execute_workflow(
        FanOut.run, asked, id=f"platform/{asked.job}/{asked.tick}", task_queue=OUR_QUEUE
    )
    took = time.perf_counter() - began
    assert result.succeeded == tenants, result
    return tenants / took
