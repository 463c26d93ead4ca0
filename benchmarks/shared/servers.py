"""Temporary servers for benchmarks, on loopback; they ignore the environment's addresses."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from benchmarks.shared.bare_jobs import BARE_WORKFLOWS
from benchmarks.shared.jobs import OUR_JOBS
from benchmarks.shared.no_op import BARE_QUEUE, OUR_QUEUE, bare_no_op, our_no_op
from dev.devstack.postgres import DatabaseUrls, EmbeddedPostgres
from dev.devstack.stack import DATABASE_VARIABLES, Stack
from dev.devstack.temporal_kinds import KIND_VARIABLE, TemporalKind, make_temporal
from dev.devstack.temporal_part import TemporalPart
from saas.database.environment import TENANT_DATA
from temporal_tenancy import Database, TenancyPlugin
from temporal_tenancy.control_plane import ControlPlaneDirectory
from temporal_tenancy.core import MigrationEnvironment
from temporal_tenancy.postgres import migrate

PASSTHROUGH: Final = (
    "benchmarks.shared.no_op",
    "benchmarks.shared.own_fields",
    "benchmarks.shared.bursts",
    "benchmarks.isolation.day_effects",
    "benchmarks.outbox.outbox_effects",
)


# Which Temporal server is measured: "dev", the default, or "server".
BENCH_VARIABLE: Final = "BENCH_TEMPORAL"


def temporal_kind() -> TemporalKind:
    """Returns the kind of Temporal server that BENCH_TEMPORAL names.

    Raises:
        dev.devstack.errors.PartMissing: there is no such kind.
    """
    return TemporalKind.of(os.environ, BENCH_VARIABLE)


class Servers:
    """A temporary PostgreSQL server and a temporary Temporal server."""

    def __init__(self, postgres: EmbeddedPostgres, temporal: TemporalPart) -> None:
        self._postgres = postgres
        self._temporal = temporal

    def new_database(self, name: str) -> DatabaseUrls:
        """Creates an empty database with all migrations."""
        urls = self._postgres.create_database(name)
        migrate(
            urls.owner,
            tenant_url=urls.tenant,
            platform_url=urls.platform,
            relay_url=urls.relay,
            application=[TENANT_DATA],
            harden=True,
        )
        return urls

    def new_store(self, name: str, application: Sequence[MigrationEnvironment]) -> DatabaseUrls:
        """Creates a database with the library's migrations and those of `application`."""
        urls = self._postgres.create_database(name)
        migrate(
            urls.owner,
            tenant_url=urls.tenant,
            platform_url=urls.platform,
            relay_url=urls.relay,
            application=application,
        )
        return urls

    def copy_database(self, name: str, template: str) -> DatabaseUrls:
        """Copies a database with its grants; nothing may be connected to the one that is copied."""
        return self._postgres.create_database(name, template=template)

    @property
    def directory(self) -> Path:
        """The folder for logs; it is deleted with the servers."""
        return self._postgres.directory.parent

    @property
    def temporal_address(self) -> str:
        """The Temporal server's address, as host:port."""
        return self._temporal.address

    def crash_postgres(self) -> None:
        """Kills PostgreSQL without a shutdown, and restarts it on the same data and port."""
        self._postgres.stop("immediate")
        self._postgres.start()

    async def our_client(
        self, database: Database, *, temporal: TemporalPart | None = None
    ) -> Client:
        """Returns a client with the plugin, whose directory is the control plane of `database`.

        It connects to `temporal`, or by default to the question's Temporal server.
        """
        plugin = TenancyPlugin(
            directory=ControlPlaneDirectory(database), database=database, passthrough=PASSTHROUGH
        )
        return await Client.connect((temporal or self._temporal).address, plugins=[plugin])

    @contextmanager
    def unfair_temporal(self, config: Mapping[str, str]) -> Iterator[TemporalPart]:
        """Starts another Temporal server, with fairness off: it serves in order of arrival.

        `config`: more of its dynamic configuration, setting name to JSON value.
        """
        with make_temporal(
            self._temporal.directory.with_name("temporal-unfair"),
            kind=temporal_kind(),
            dynamic_config={**config, "matching.enableFairness": "false"},
        ) as server:
            yield server

    async def bare_client(self) -> Client:
        """Returns a client of temporalio alone, with its pydantic converter."""
        return await Client.connect(self._temporal.address, data_converter=pydantic_data_converter)


def our_worker(client: Client) -> Worker:
    """Returns a worker of our jobs, with the SDK's default settings except those of the plugin."""
    return Worker(client, task_queue=OUR_QUEUE, workflows=OUR_JOBS, activities=[our_no_op])


def bare_worker(client: Client) -> Worker:
    """Returns a worker of temporalio alone, with the settings that the plugin gives ours.

    The sandbox is on, with the same packages passed through, and eager activities are off. All
    other settings are the SDK's defaults in both: slots, pollers, cache.
    """
    restrictions = SandboxRestrictions.default.with_passthrough_modules(
        "temporal_tenancy", *PASSTHROUGH
    )
    return Worker(
        client,
        task_queue=BARE_QUEUE,
        workflows=BARE_WORKFLOWS,
        activities=[bare_no_op],
        workflow_runner=SandboxedWorkflowRunner(restrictions=restrictions),
        disable_eager_activity_execution=True,
    )


@contextmanager
def running_servers(temporal_config: Mapping[str, str]) -> Iterator[Servers]:
    """Runs the servers in a temporary folder during the block, then deletes it.

    `temporal_config`: dynamic configuration of the Temporal server, setting name to JSON value.

    Raises:
        dev.devstack.errors.PartMissing: a server's program is not installed.
    """
    named = (*DATABASE_VARIABLES, "TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE")
    environ = {name: value for name, value in os.environ.items() if name not in named}
    environ[KIND_VARIABLE] = temporal_kind()
    with tempfile.TemporaryDirectory(prefix="tenancy-bench-") as folder:
        # PostgreSQL does not run as root, so other users must be able to reach its data inside.
        Path(folder).chmod(0o711)
        with Stack(
            Path(folder), environ=environ, durable=False, ui=False, dynamic_config=temporal_config
        ) as stack:
            assert stack.postgres is not None
            assert stack.temporal is not None
            yield Servers(stack.postgres, stack.temporal)
