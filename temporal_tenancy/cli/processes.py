"""Runs the application's workers and relays."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Literal

import typer
from temporalio.client import Client
from temporalio.common import WorkerDeploymentVersion
from temporalio.worker import Worker, WorkerDeploymentConfig

from temporal_tenancy.cli._directory_access import refuse_unreadable
from temporal_tenancy.cli._not_reachable import SettingMissing
from temporal_tenancy.cli._process_logs import write_logs
from temporal_tenancy.cli._temporal_config import temporal_config
from temporal_tenancy.cli.program import Application, Login, current_application
from temporal_tenancy.control_plane.running_processes import (
    RunningProcess,
    announced,
    configuration_digest,
)
from temporal_tenancy.core.activities import declared
from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.jobs import Job, job_of, registry
from temporal_tenancy.core.nearest import did_you_mean
from temporal_tenancy.deployments.versioning import version_of_worker
from temporal_tenancy.lifecycle import (
    Consumers,
    Process,
    RelayConsumer,
    Scrape,
    probes,
    run_process,
)
from temporal_tenancy.lint import check_database
from temporal_tenancy.outbox import Relay
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.postgres.revisions import newest_revisions
from temporal_tenancy.sdk.core_logs import forward_core_logs
from temporal_tenancy.sdk.pollers import POLLERS
from temporal_tenancy.sdk.search_attributes import require_search_attributes

LIBRARY: Final = "temporal_tenancy."  # begins the name of each module of the library
OUTBOX: Final = "outbox"  # shown where a worker shows its task queues
UNVERSIONED: Final = "unversioned"  # names the deployment of workers that are in none
DIRECTORY_CONNECTIONS: Final = 2  # its answers are cached, and what is asked at once is one query

Activity = Callable[..., Any]

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProcessOptions:
    """What workers and relays have in common, as a person gives it."""

    identity: str | None  # None: the process's number and machine
    health_host: str
    health_port: int | None  # 0: any free port; None: no health door
    ready_file: Path | None
    drain_delay: float = Process.drain_delay.total_seconds()

    def process(
        self,
        queues: Sequence[str],
        grace: float | None,
        what: str,
        kind: Literal["worker", "relay"] = "worker",
        *,
        version: str | None,
        scrape: Scrape | None,
    ) -> Process:
        """Returns the settings of the process."""
        return Process(
            queues=queues,
            identity=self.identity or f"{os.getpid()}@{socket.gethostname()}",
            health_host=self.health_host,
            health_port=self.health_port,
            version=version,
            scrape=scrape,
            ready_file=self.ready_file,
            grace=None if grace is None else timedelta(seconds=grace),
            drain_delay=timedelta(seconds=self.drain_delay),
            what=what,
            kind=kind,
        )


def work(
    named: Sequence[str],
    *,
    max_activities: int,
    grace: float,
    process: ProcessOptions,
    deployment: str | None = None,
    build_id: str | None = None,
) -> None:
    """Serves the application's queues, or the `named` ones, until a signal.

    Args:
        named: queues; empty: all.
        max_activities: concurrent activities per queue.
        grace: seconds for activities at shutdown.
        process: the other settings.
        deployment: the name of the worker deployment; None: the workers are unversioned.
        build_id: the version of this code, with `deployment`.

    Raises:
        typer.BadParameter: a queue is none of the application's.
        ConfigurationError: a job, an activity or a queue is not listed, or only one of
            `deployment` and `build_id` is given.
        NotReachable: a URL is not set, or a server does not answer.
        DirectoryUnreadable: the platform's role may not read the tenant directory.
        ProcessProblem: the health port is in use, or a worker has failed.
    """
    application = current_application()
    workflows, activities = workflows_of(application), activities_of(application)
    queues = chosen(queues_of(application, workflows), named)
    versioning = version_of_worker(deployment or None, build_id or None)
    version = _version(application, build_id or None)
    settings = process.process(
        queues, grace, "a worker", version=version, scrape=application.scrape
    )
    urls = [_url(application, application.tenant), _url(application, application.platform)]
    _log_start(application, settings)

    async def make(stack: AsyncExitStack) -> Consumers:
        with application.reaching():
            database = application.database()
            client = await _connected(application, urls, database, stack)
            return Consumers(
                consumers=[
                    Worker(
                        client,
                        task_queue=queue,
                        workflows=workflows,
                        activities=activities,
                        # One thread per slot, made on demand: with fewer, an activity would wait
                        # for a thread while its timeout runs.
                        activity_executor=ThreadPoolExecutor(max_activities, f"{queue}-activity"),
                        max_concurrent_activities=max_activities,
                        workflow_task_poller_behavior=POLLERS,
                        activity_task_poller_behavior=POLLERS,
                        graceful_shutdown_timeout=timedelta(seconds=grace),
                        identity=settings.identity,
                        deployment_config=versioning or _unversioned(version),
                    )
                    for queue in queues
                ],
                probes=probes(client, urls),
                announced=announced(database, _announced(application, settings)),
            )

    asyncio.run(run_process(settings, make))


def relay(process: ProcessOptions, *, build_id: str | None = None) -> None:
    """Relays the outbox's messages until a signal.

    Args:
        process: the settings.
        build_id: the version of this code, as of the workers.

    Raises:
        ConfigurationError: the application's plugin has no directory.
        NotReachable: the relay's URL is not set, or a server does not answer.
        DirectoryUnreadable: the relay's role may not read the tenant directory.
        ProcessProblem: the health port is in use, or the relay has failed.
    """
    application = current_application()
    settings = process.process(
        [OUTBOX],
        None,
        "the relay",
        "relay",
        version=_version(application, build_id or None),
        scrape=application.scrape,
    )
    url = _url(application, application.relay)
    _log_start(application, settings)

    async def make(stack: AsyncExitStack) -> Consumers:
        with application.reaching():
            directory = Database(
                platform_url=url,
                platform_pool_size=DIRECTORY_CONNECTIONS,
                application_name="temporal-tenancy relay (directory)",
                installation=application.installation,
            )
            client = await _connected(application, [url], directory, stack)
            listens = application.relay_listens
            made = Relay(
                client,
                url,
                alerts=application.alerts,
                installation=application.installation,
                listen_url=None if listens is None else listens.url,
                stores=application.connections,
            )
            return Consumers(
                consumers=[RelayConsumer(made)],
                probes=probes(client, [url]),
                beside=_measuring(application, settings, client, directory, made),
                announced=announced(directory, _announced(application, settings)),
            )

    asyncio.run(run_process(settings, make))


def _measuring(
    application: Application, process: Process, client: Client, database: Database, relay: Relay
) -> AbstractAsyncContextManager[None]:
    """Returns the context in which a relay collects gauges; an empty one without metrics."""
    if process.scrape is None or process.health_port is None:
        return nullcontext()
    # Imported here: it needs an extra that an application without metrics has not installed.
    from temporal_tenancy.metrics import collecting

    return collecting(
        client,
        database,
        application.tenants(database),
        queues=application.queues,
        schedules=application.every_schedule,
        migrations=application.environments,
        relay=relay,
    )


def _version(application: Application, build_id: str | None) -> str | None:
    """Returns the version of the code: the build id, or what the application's metrics say."""
    if application.scrape is None:
        return build_id
    # Imported here: it needs an extra that an application without metrics has not installed.
    from temporal_tenancy.metrics.process_metrics import process_version

    return process_version(build_id)


def _unversioned(version: str | None) -> WorkerDeploymentConfig | None:
    """Returns what only records in a run's history which code worked on it."""
    if version is None:
        return None
    named = WorkerDeploymentVersion(deployment_name=UNVERSIONED, build_id=version)
    return WorkerDeploymentConfig(version=named, use_worker_versioning=False)


def _announced(application: Application, process: Process) -> RunningProcess:
    """Returns what this process says of itself; it reads the files of the migrations."""
    config = temporal_config()
    logins = (application.tenant, application.platform, application.relay)
    started_with = [
        *(login.url for login in logins),
        *(config.get("target_host"), config.get("namespace")),
        application.configuration,
    ]
    return RunningProcess(
        kind=process.kind,
        identity=process.identity,
        serves=",".join(process.queues),
        version=process.version or "",
        configuration=configuration_digest(started_with),
        revisions=newest_revisions(application.environments),
    )


def workflows_of(application: Application) -> Sequence[type]:
    """Returns the application's own workflows.

    Raises:
        ConfigurationError: there are none, or a job that was imported is not among them.
    """
    jobs = _own_jobs()
    if application.workflows is None:
        if not jobs:
            raise ConfigurationError(
                "the application has no jobs. Import the modules of your jobs where you make the "
                "Application."
            )
        return [job.workflow for job in jobs]
    of_features = {cls for feature in application.features or () for cls in feature.workflows}
    names = {job.name for cls in application.workflows if (job := job_of(cls)) is not None}
    for job in jobs:
        if job.name not in names and job.workflow not in of_features:
            raise ConfigurationError(
                f"the job {job.name} is not among the application's workflows, so no worker would "
                f"run it. Add {job.workflow.__qualname__} to workflows=, or leave workflows= out: "
                "then workers have all jobs that are imported."
            )
    return application.workflows


def activities_of(application: Application) -> Sequence[Activity]:
    """Returns the application's own activities.

    Raises:
        ConfigurationError: a function that was imported is not among them.
    """
    own = {
        name: function
        for (module, name), function in declared.items()
        if not module.startswith(LIBRARY) and "." not in name
    }
    if application.activities is None:
        return list(own.values())
    listed = {getattr(function, "__qualname__", None) for function in application.activities}
    for name in own:
        if name not in listed:
            raise ConfigurationError(
                f"the activity {name} is not among the application's activities, so no worker "
                "would run it. Add it to activities=, or leave activities= out: then workers have "
                "all that are imported."
            )
    return application.activities


def queues_of(application: Application, workflows: Sequence[type]) -> Sequence[str]:
    """Returns the queues of the application's workers.

    Raises:
        ConfigurationError: a job runs on a queue that is not among them.
    """
    jobs = [job for cls in workflows if (job := job_of(cls)) is not None]
    if not application.queues:
        brought = {
            scheduled.queue or registry[scheduled.job].queue
            for scheduled in application.platform_schedules
        }
        return sorted({*(job.queue for job in jobs), *brought})
    for job in jobs:
        if job.queue not in application.queues:
            raise ConfigurationError(
                f'the job {job.name} runs on the queue "{job.queue}", which is not among the '
                f"application's queues ({', '.join(application.queues)}), so no worker would run "
                f"it.{did_you_mean(job.queue, application.queues) or ' Add the queue to queues=.'}"
            )
    return application.queues


def chosen(queues: Collection[str], named: Sequence[str]) -> Sequence[str]:
    """Returns the queues that a person names, each once; all without any.

    Raises:
        typer.BadParameter: a name is none of `queues`.
    """
    for name in named:
        if name not in queues:
            raise typer.BadParameter(
                f'"{name}" is not a queue of the application.{did_you_mean(name, queues)} The '
                f"queues are {', '.join(queues)}.",
                param_hint="--queue",
            )
    return list(dict.fromkeys(named)) or list(queues)


def _own_jobs() -> Sequence[Job]:
    return [job for job in registry.values() if not job.workflow.__module__.startswith(LIBRARY)]


def _log_start(application: Application, process: Process) -> None:
    write_logs(process.identity)
    forward_core_logs(measures=process.scrape is not None and process.health_port is not None)
    if application.owner.url is None:
        return
    if process.kind == "relay":
        log.warning("relay.owner_credentials", extra={"setting": application.owner.setting})
    else:
        log.warning("worker.owner_credentials", extra={"setting": application.owner.setting})


def _url(application: Application, login: Login) -> str:
    if login.url is None:
        raise SettingMissing(f"{login.setting} is not set. {application.how_to_start}".rstrip())
    return login.url


async def _connected(
    application: Application, urls: Sequence[str], database: Database, stack: AsyncExitStack
) -> Client:
    """Checks the databases and connects to Temporal; closes `database` after the process."""
    stack.push_async_callback(database.dispose)
    for url in urls:
        await asyncio.to_thread(
            check_database, url, application.environments, installation=application.installation
        )
    await refuse_unreadable(application.tenants(database))
    client = await application.connect(database)
    await require_search_attributes(client)
    return client
