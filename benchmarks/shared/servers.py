"""The servers that are measured on: thrown away afterwards, on loopback, whatever is set."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from benchmarks.shared.jobs import BARE_WORKFLOWS, OUR_JOBS
from benchmarks.shared.no_op import BARE_QUEUE, OUR_QUEUE, bare_no_op, our_no_op
from dev.devstack.postgres import DatabaseUrls, EmbeddedPostgres
from dev.devstack.stack import DATABASE_VARIABLES, Stack
from dev.devstack.temporal_server import TemporalDevServer
from saas.database.models import TENANT_DATA
from temporal_tenancy import Database, TenancyPlugin
from temporal_tenancy.control_plane import ControlPlaneDirectory
from temporal_tenancy.postgres import migrate

PASSTHROUGH: Final = (
    "benchmarks.shared.no_op",
    "benchmarks.shared.bursts",
    "benchmarks.outbox.outbox_effects",
)


class Servers:
    """A PostgreSQL and a Temporal server in memory."""

    def __init__(self, postgres: EmbeddedPostgres, temporal: TemporalDevServer) -> None:
        self._postgres = postgres
        self._temporal = temporal

    def new_database(self, name: str) -> DatabaseUrls:
        """Makes an empty database with all migrations."""
        urls = self._postgres.create_database(name)
        migrate(
            urls.owner,
            tenant_url=urls.tenant,
            platform_url=urls.platform,
            relay_url=urls.relay,
            application=[TENANT_DATA],
        )
        return urls

    @property
    def directory(self) -> Path:
        """Where logs go; it is thrown away with the servers."""
        return self._postgres.directory.parent

    @property
    def temporal_address(self) -> str:
        """Of the Temporal server."""
        return self._temporal.address

    def crash_postgres(self) -> None:
        """Ends PostgreSQL without a shutdown, and starts it on the same data and port."""
        self._postgres.stop("immediate")
        self._postgres.start()

    async def our_client(
        self, database: Database, *, temporal: TemporalDevServer | None = None
    ) -> Client:
        """A client with everything on: the control plane of `database` is the directory.

        It is one of the question's Temporal server, or of `temporal`.
        """
        plugin = TenancyPlugin(
            directory=ControlPlaneDirectory(database), database=database, passthrough=PASSTHROUGH
        )
        return await Client.connect((temporal or self._temporal).address, plugins=[plugin])

    @contextmanager
    def unfair_temporal(self, config: Mapping[str, str]) -> Iterator[TemporalDevServer]:
        """Another Temporal server, which serves a backlog in its order of arrival.

        `config` are further settings of it, name to JSON value.
        """
        with TemporalDevServer(
            self._temporal.binary,
            self._temporal.directory.with_name("temporal-unfair"),
            ui=False,
            dynamic_config={**config, "matching.enableFairness": "false"},
        ) as server:
            yield server

    async def bare_client(self) -> Client:
        """A client of temporalio alone, with its pydantic converter."""
        return await Client.connect(self._temporal.address, data_converter=pydantic_data_converter)


def our_worker(client: Client) -> Worker:
    """A worker of our jobs with the SDK's own settings, as far as the plugin leaves them."""
    return Worker(client, task_queue=OUR_QUEUE, workflows=OUR_JOBS, activities=[our_no_op])


def bare_worker(client: Client) -> Worker:
    """A worker of temporalio alone, set as the plugin sets ours.

    The sandbox is on, with the same packages passed through, and eager activities are off.
    Everything else is the SDK's default in both: slots, pollers, cache.
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
    """Starts the servers in a folder of their own, and leaves nothing behind.

    `temporal_config` are settings of the Temporal server, name to JSON value.

    Raises `devstack.errors.PartMissing`.
    """
    named = (*DATABASE_VARIABLES, "TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE")
    environ = {name: value for name, value in os.environ.items() if name not in named}
    with tempfile.TemporaryDirectory(prefix="tenancy-bench-") as folder:
        # Others than root must be able to pass through to PostgreSQL's data.
        Path(folder).chmod(0o711)
        with Stack(
            Path(folder), environ=environ, durable=False, ui=False, dynamic_config=temporal_config
        ) as stack:
            assert stack.postgres is not None
            assert stack.temporal is not None
            yield Servers(stack.postgres, stack.temporal)
