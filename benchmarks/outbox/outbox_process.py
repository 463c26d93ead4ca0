"""`python -m benchmarks.outbox.outbox_process relay|small|analytics`: a relay, or a queue's worker.

It reads the servers' addresses from the same environment variables as `worker.py`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from datetime import timedelta
from functools import partial
from typing import Final

from temporalio.client import Client
from temporalio.worker import Worker

from benchmarks.outbox.outbox_effects import ANALYTICS_QUEUE, ANALYTICS_SLOTS, SMALL_QUEUE
from benchmarks.outbox.outbox_jobs import OUTBOX_ACTIVITIES, OUTBOX_JOBS
from benchmarks.outbox.outbox_stack import READY
from benchmarks.shared.measure import write_logs_away
from benchmarks.shared.servers import PASSTHROUGH
from processes.worker.slots import SlotOptions
from temporal_tenancy import Database, TenancyPlugin
from temporal_tenancy.control_plane import ControlPlaneDirectory
from temporal_tenancy.lifecycle import spare_what_is_loaded
from temporal_tenancy.outbox import Relay, RelayOptions, RetryLadder
from temporal_tenancy.sdk import POLLERS

# Keeps completed messages, as the peer's table does, and retries failed attempts almost at once.
OPTIONS: Final = RelayOptions(
    keep_completed=timedelta(hours=1), ladder=RetryLadder(unit=timedelta(seconds=0.05))
)


async def relay() -> None:
    """Runs a relay until the process is killed."""
    url = os.environ["RELAY_DATABASE_URL"]
    relay = Relay(await _client(Database(platform_url=url)), url, options=OPTIONS)
    running = asyncio.create_task(relay.run())
    await relay.until_running()
    spare_what_is_loaded()  # as worker.py does
    print(READY, flush=True)
    await running


async def worker(queue: str, options: SlotOptions) -> None:
    """Runs a worker of `queue` until the process is killed."""
    database = Database(
        tenant_url=os.environ["TENANT_DATABASE_URL"],
        platform_url=os.environ["PLATFORM_DATABASE_URL"],
    )
    async with Worker(
        await _client(database),
        task_queue=queue,
        workflows=OUTBOX_JOBS,
        activities=OUTBOX_ACTIVITIES,
        tuner=options.tuner(),
        workflow_task_poller_behavior=POLLERS,
        activity_task_poller_behavior=POLLERS,
    ):
        spare_what_is_loaded()  # as worker.py does
        print(READY, flush=True)
        await asyncio.Event().wait()


async def _client(database: Database) -> Client:
    plugin = TenancyPlugin(
        directory=ControlPlaneDirectory(database), database=database, passthrough=PASSTHROUGH
    )
    return await Client.connect(os.environ["TEMPORAL_ADDRESS"], plugins=[plugin])


ROLES: Final[dict[str, Callable[[], Coroutine[None, None, None]]]] = {
    "relay": relay,
    "small": partial(worker, SMALL_QUEUE, SlotOptions()),
    "analytics": partial(worker, ANALYTICS_QUEUE, SlotOptions(max_activities=ANALYTICS_SLOTS)),
}


if __name__ == "__main__":
    write_logs_away()
    asyncio.run(ROLES[sys.argv[1]]())
