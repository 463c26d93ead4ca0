"""Runs a worker process: its checks, its connections and its workers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from temporalio.client import Client
from temporalio.common import WorkerDeploymentVersion
from temporalio.worker import Worker, WorkerDeploymentConfig

from activities import ACTIVITIES
from processes.connect import connect_client, database, shared_state_of
from processes.lifecycle.build import version_of
from processes.lifecycle.configuration import this_process
from processes.lifecycle.measuring import measuring
from processes.lifecycle.preflight import (
    check_databases,
    refuse_owner_credentials,
    refusing,
    runtime_urls,
)
from processes.worker.fairness_watch import watching_fairness
from processes.worker.slots import SlotOptions
from saas.services.alert_sinks import configured_sinks
from saas.settings import Settings
from temporal_tenancy import Database, Feature, Job, registry
from temporal_tenancy.control_plane import announced
from temporal_tenancy.deployments import versioned
from temporal_tenancy.lifecycle import (
    Consumers,
    Process,
    probes,
    run_process,
)
from temporal_tenancy.metering import metering
from temporal_tenancy.sdk import POLLERS, forward_core_logs, require_search_attributes
from temporal_tenancy.shared_state import shared_state
from workflows import WORKFLOWS

DEPLOYMENT: Final = "temporal-tenancy"  # in the histories of unversioned workers

log = logging.getLogger(__name__)


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
        WorkerExit: something it needs is missing or wrong.
        ProcessProblem: the health port is in use, or a worker has failed.
    """
    refuse_owner_credentials(settings)
    forward_core_logs(measures=True)
    metrics, scrape = measuring(settings)
    process = Process(
        queues=options.queues,
        identity=options.identity,
        health_host=options.health_host,
        health_port=options.health_port,
        version=version_of(settings),
        scrape=scrape,
        ready_file=options.ready_file,
        grace=timedelta(seconds=settings.worker_grace_seconds),
        drain_delay=timedelta(seconds=settings.drain_delay_seconds),
    )

    async def make(stack: AsyncExitStack) -> Consumers:
        with refusing():
            client, engines = await _connect(options, settings, [metrics], stack)
            return Consumers(
                consumers=_workers(client, options, settings),
                probes=probes(client, runtime_urls(settings)),
                beside=watching_fairness(engines, client.namespace),
                announced=announced(
                    engines,
                    this_process("worker", options.identity, ",".join(options.queues), settings),
                ),
            )

    asyncio.run(run_process(process, make))


async def _connect(
    options: Options, settings: Settings, features: Sequence[Feature], stack: AsyncExitStack
) -> tuple[Client, Database]:
    await check_databases(settings)
    engines = database(
        settings,
        application_name="temporal-tenancy worker",
        at_once=options.slots.max_activities,
    )
    stack.push_async_callback(engines.dispose)
    state = shared_state_of(settings)
    stack.push_async_callback(state.close)
    client = await connect_client(
        engines,
        alerts=configured_sinks(settings),
        features=[*features, metering(engines), shared_state(state)],
    )
    await require_search_attributes(client)
    return client, engines


def unlisted_jobs(options: Options) -> list[Job]:
    """Returns the application's jobs on the worker's queues that it does not list.

    Their runs would be taken by this worker and fail. The library's own come by the plugin.
    """
    return [
        job
        for job in registry.values()
        if job.queue in options.queues
        and job.workflow not in options.workflows
        and not job.workflow.__module__.startswith("temporal_tenancy.")
    ]


def _warn_of_unlisted_jobs(options: Options) -> None:
    for job in unlisted_jobs(options):
        log.warning(
            "worker.job_not_listed",
            extra={
                "job": job.name,
                "queue": job.queue,
                "hint": f"Its runs cannot go on here. Add {job.workflow.__qualname__} to WORKFLOWS "
                "in workflows/__init__.py.",
            },
        )


def _workers(client: Client, options: Options, settings: Settings) -> list[Worker]:
    _warn_of_unlisted_jobs(options)
    deployment = deployment_of(settings)
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


def deployment_of(settings: Settings) -> WorkerDeploymentConfig:
    """Returns the version of this code; raises `ConfigurationError` if the server refuses it."""
    build = version_of(settings)
    if settings.worker_deployment_name is not None:
        return versioned(settings.worker_deployment_name, build)
    # Only records in a run's history which code worked on it.
    version = WorkerDeploymentVersion(deployment_name=DEPLOYMENT, build_id=build)
    return WorkerDeploymentConfig(version=version, use_worker_versioning=False)
