"""A worker with the plugin, on a test server that is there already."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol

from temporalio.client import Client, Plugin
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Worker

from temporal_tenancy.sdk.search_attributes import register_search_attributes

THREADS: Final = 20  # of synchronous activities
POLL: Final = 0.02  # seconds between two looks whether the server has the search attributes
PATIENCE: Final = 10.0  # seconds until it must have them


class Environment(Protocol):
    """A test server, such as `temporalio.testing.WorkflowEnvironment`."""

    @property
    def client(self) -> Client:
        """A client of it."""


@dataclass(frozen=True)
class RunningWorker:
    """A worker that serves a queue, and a client of its server with the plugin."""

    client: Client
    worker: Worker
    task_queue: str


async def tenancy_client(
    server: Client | Environment | str, plugin: Plugin, *, namespace: str = "default"
) -> Client:
    """Returns a client with the plugin, whose namespace has the search attributes.

    Args:
        server: a client without the plugin, which is left as it is; a test environment that has
            one; or a server's address.
        plugin: the `TenancyPlugin`.
        namespace: of an address.

    Raises:
        ConfigurationError: the client has a `TenancyPlugin` already.
        RPCError: the server does not answer, or refuses the search attributes.
    """
    if isinstance(server, str):
        client = await Client.connect(server, namespace=namespace, plugins=[plugin])
    else:
        given = server if isinstance(server, Client) else server.client
        config = given.config()
        config["plugins"] = [*config["plugins"], plugin]
        client = Client(**config)
    await _register(client)
    return client


@asynccontextmanager
async def running_worker(
    server: Client | Environment | str,
    plugin: Plugin,
    *,
    workflows: Sequence[type],
    activities: Sequence[Callable[..., Any]] = (),
    task_queue: str | None = None,
    namespace: str = "default",
    **options: Any,  # any other argument of Worker
) -> AsyncIterator[RunningWorker]:
    """Runs a worker with the plugin during the block.

    Args:
        server: as for `tenancy_client`.
        plugin: the `TenancyPlugin`. Without a cache (`CachedDirectory(directory, seconds=0)`) a
            change of a tenant has an effect at once.
        workflows: the jobs.
        activities: their activities.
        task_queue: the queue; None: a new one.
        namespace: of an address.
        **options: any other argument of `temporalio.worker.Worker`.

    Raises:
        ConfigurationError: the plugin refuses the worker, or the client has one already.
        RPCError: the server does not answer, or refuses the search attributes.
    """
    client = await tenancy_client(server, plugin, namespace=namespace)
    queue = task_queue or f"test-{uuid.uuid4()}"
    with ThreadPoolExecutor(THREADS) as threads:
        worker = Worker(
            client,
            task_queue=queue,
            workflows=workflows,
            activities=activities,
            **{"activity_executor": threads, **options},
        )
        async with worker:
            yield RunningWorker(client, worker, queue)


async def _register(client: Client) -> None:
    try:
        added = await register_search_attributes(client)
    except RPCError as error:
        # A time-skipping server may not have the call, and then needs no search attributes.
        if error.status is RPCStatusCode.UNIMPLEMENTED:
            return
        raise
    async with asyncio.timeout(PATIENCE):
        while added:  # until the server's cache has them
            try:
                await client.count_workflows("TenantId = 'x'")
            except RPCError as error:
                if error.status is not RPCStatusCode.INVALID_ARGUMENT:
                    raise
                await asyncio.sleep(POLL)
            else:
                return
