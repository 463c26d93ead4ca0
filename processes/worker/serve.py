"""Runs a worker process: checks, polls, reports its health, and stops in order."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import structlog
from temporalio.client import Client
from temporalio.common import WorkerDeploymentVersion
from temporalio.worker import Worker, WorkerDeploymentConfig

from activities import ACTIVITIES
from processes.connect import connect_client, database
from processes.lifecycle.collector import spare_what_is_loaded
from processes.lifecycle.exits import WorkerExit
from processes.lifecycle.health import Health, serving
from processes.lifecycle.preflight import (
    check_databases,
    refuse_owner_credentials,
    refusing,
    runtime_urls,
)
from processes.lifecycle.probes import probes
from processes.lifecycle.ready_file import write_ready_file
from processes.lifecycle.stop_request import StopRequest, StopRequested
from processes.worker.build import build_id
from processes.worker.fairness_watch import watching_fairness
from processes.worker.slots import POLLERS, SlotOptions
from saas.services.alert_sinks import configured_sinks
from saas.settings import Settings
from temporal_tenancy import Database
from temporal_tenancy.cli import ExitCode
from temporal_tenancy.sdk import require_search_attributes
from temporal_tenancy.sdk.core_logs import forward_core_logs
from workflows import WORKFLOWS

DEPLOYMENT: Final = "temporal-tenancy"
CANCEL_SECONDS: Final = 10.0  # for activities to end after being cancelled
START_LOOK: Final = 0.02  # seconds between two checks whether a worker has started to poll

log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Options:
    """A worker process's command-line options."""

    queues: Sequence[str]
    identity: str  # in Temporal and in log lines
    slots: SlotOptions
    health_host: str
    health_port: int  # 0: any free port
    ready_file: Path | None = None  # written when ready for work
    workflows: Sequence[type] = field(default_factory=lambda: WORKFLOWS)
    activities: Sequence[Callable[..., Any]] = field(default_factory=lambda: ACTIVITIES)


def serve(options: Options, settings: Settings) -> None:
    """Works until a signal asks it to stop; returns after an orderly shutdown.

    Raises:
        WorkerExit: something it needs is missing or wrong, or a worker has failed.
    """
    refuse_owner_credentials(settings)
    forward_core_logs()
    asyncio.run(_serve(options, settings))


async def _serve(options: Options, settings: Settings) -> None:
    health = Health()
    async with AsyncExitStack() as stack:
        stop = stack.enter_context(StopRequest().listening())
        address = await stack.enter_async_context(
            serving(health, host=options.health_host, port=options.health_port)
        )
        log.info("worker.starting", queues=list(options.queues), health=address)
        try:
            with refusing():
                client, engines = await stop.unless_requested(_connect(options, settings, stack))
                workers = _workers(client, options, settings)
        except StopRequested:
            log.info("worker.stopped", signal=stop.signal)
            return
        health.probes = probes(client, runtime_urls(settings))
        beside = watching_fairness(engines, client.namespace)
        await _work(workers, health, stop, options, settings, address, beside=beside)


async def _connect(
    options: Options, settings: Settings, stack: AsyncExitStack
) -> tuple[Client, Database]:
    await check_databases(settings)
    engines = database(
        settings,
        application_name="temporal-tenancy worker",
        at_once=options.slots.max_activities,
    )
    stack.push_async_callback(engines.dispose)
    client = await connect_client(engines, alerts=configured_sinks(settings))
    await require_search_attributes(client)
    return client, engines


def _workers(client: Client, options: Options, settings: Settings) -> list[Worker]:
    # Only records in a run's history which code worked on it; worker versioning stays off.
    deployment = WorkerDeploymentConfig(
        version=WorkerDeploymentVersion(deployment_name=DEPLOYMENT, build_id=build_id()),
        use_worker_versioning=False,
    )
    return [
        Worker(
            client,
            task_queue=queue,
            workflows=options.workflows,
            activities=options.activities,
            # One thread per slot, created on demand: with fewer, an activity would wait for a
            # thread while its timeout runs.
            activity_executor=ThreadPoolExecutor(options.slots.max_activities, f"{queue}-activity"),
            tuner=options.slots.tuner(),
            workflow_task_poller_behavior=POLLERS,
            activity_task_poller_behavior=POLLERS,
            graceful_shutdown_timeout=timedelta(seconds=settings.worker_grace_seconds),
            identity=options.identity,
            deployment_config=deployment,
        )
        for queue in options.queues
    ]


async def _work(
    workers: Sequence[Worker],
    health: Health,
    stop: StopRequest,
    options: Options,
    settings: Settings,
    address: str,
    *,
    beside: AbstractAsyncContextManager[None],  # entered while the workers poll
) -> None:
    health.workers = workers
    running = [asyncio.create_task(worker.run()) for worker in workers]
    failed = asyncio.create_task(_first_failure(running))
    try:
        await stop.until_ended(failed, asyncio.create_task(_until_polling(workers)))
        spare_what_is_loaded()
        log.info("worker.started", queues=list(options.queues), health=address)
        if options.ready_file is not None:
            write_ready_file(
                options.ready_file,
                identity=options.identity,
                queues=list(options.queues),
                health=address,
            )
        async with beside:
            await stop.until_ended(failed)
    except StopRequested:
        pass
    failed.cancel()
    began = time.monotonic()
    health.stopping = True
    grace = settings.worker_grace_seconds
    log.info("worker.stopping", signal=stop.signal, grace_seconds=grace)
    await _shut_down(workers, running, grace + CANCEL_SECONDS)
    log.info("worker.stopped", signal=stop.signal, seconds=round(time.monotonic() - began, 2))
    for task in running:
        error = task.exception()
        if error is not None:
            raise WorkerExit(
                ExitCode.FAILED, f"WorkerFailed: a worker could not go on: {error}."
            ) from error


async def _first_failure(running: Sequence[asyncio.Task[None]]) -> None:
    """Returns when a worker has ended, which before a shutdown means that it failed."""
    await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)


async def _until_polling(workers: Sequence[Worker]) -> None:
    # The SDK has no event for this.
    while not all(each.is_running for each in workers):  # noqa: ASYNC110
        await asyncio.sleep(START_LOOK)


async def _shut_down(
    workers: Sequence[Worker], running: Sequence[asyncio.Task[None]], seconds: float
) -> None:
    """Stops all workers; ends the process if an activity ignores its cancellation."""
    shutdowns = asyncio.gather(*(worker.shutdown() for worker in workers))
    _, late = await asyncio.wait(running, timeout=seconds)
    if late:
        log.error("worker.activities_abandoned", seconds=seconds)
        os._exit(ExitCode.FAILED)
    await shutdowns
