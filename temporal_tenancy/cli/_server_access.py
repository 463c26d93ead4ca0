"""Connections to the servers that stay open while a command runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from sqlalchemy.exc import ProgrammingError

from temporal_tenancy.cli._nearest_tenant import with_nearest
from temporal_tenancy.cli.program import Application, current_application
from temporal_tenancy.core.directory import (
    Tenant,
    TenantDirectory,
    TenantStatus,
    pages,
    use_directory,
)
from temporal_tenancy.core.errors import TenantUnknown
from temporal_tenancy.core.identifiers import tenant_id
from temporal_tenancy.core.migration_environment import LIBRARY, MigrationEnvironment
from temporal_tenancy.core.tenant_state import unknown
from temporal_tenancy.postgres.database import Database, use_database

if TYPE_CHECKING:
    from temporalio.client import Client

_LACKING: Final = ("42P01", "42703")  # SQLSTATE: no such table, no such column


@dataclass(frozen=True)
class Temporal:
    """A Temporal client, and links to its Web UI."""

    client: Client
    ui_url: str | None

    def link(self, workflow_id: str, run_id: str | None = None) -> str | None:
        """Returns a run's page in the Web UI, or None; without `run_id` it shows the latest run."""
        run = f"/{quote(run_id, safe='')}" if run_id else ""
        return self._page(f"workflows/{quote(workflow_id, safe='')}{run}")

    def schedule_link(self, schedule_id: str) -> str | None:
        """Returns a schedule's page in the Web UI; None without a Web UI."""
        return self._page(f"schedules/{quote(schedule_id, safe='')}")

    def _page(self, path: str) -> str | None:
        if self.ui_url is None:
            return None
        return f"{self.ui_url.rstrip('/')}/namespaces/{self.client.namespace}/{path}"


@dataclass(frozen=True)
class Servers(Temporal):
    """Connections to Temporal and to the database."""

    database: Database


@asynccontextmanager
async def control_plane() -> AsyncIterator[Database]:
    """Opens only the database.

    Raises:
        NotReachable: the database does not answer.
        MigrationsBehind: the block needs a table or column that is missing.
        InstallationElsewhere: the library's tables are in another schema.
    """
    application = current_application()
    database = application.database()
    try:
        with application.reaching(), _migrated(application):
            try:
                yield database
            except TenantUnknown as error:
                raise await with_nearest(error, application.tenants(database)) from None
    finally:
        await database.dispose()


def _forward_core_logs() -> None:
    # Imported here: it loads the SDK, which a command that asks only the database does not need.
    from temporal_tenancy.sdk.core_logs import forward_core_logs

    forward_core_logs()


async def connected(application: Application, database: Database | None = None) -> Client:
    """Connects to Temporal for a command, which a server that hangs does not keep for long."""
    # Imported here: it loads the SDK, which a command that asks only the database does not need.
    from temporal_tenancy.cli._temporal_connection import impatient

    return impatient(await application.connect(database))


@asynccontextmanager
async def temporal() -> AsyncIterator[Temporal]:
    """Connects only to Temporal; raises `NotReachable`."""
    application = current_application()
    _forward_core_logs()
    with application.reaching():
        yield Temporal(await connected(application), application.ui_url)


@asynccontextmanager
async def servers() -> AsyncIterator[Servers]:
    """Opens both; raises the same as `control_plane` and `temporal`."""
    async with control_plane() as database:
        application = current_application()
        _forward_core_logs()
        client = await connected(application, database)
        yield Servers(client, application.ui_url, database)


def directory_of(database: Database) -> TenantDirectory:
    """Returns the directory of the application's tenants."""
    return current_application().tenants(database)


async def known_tenant(database: Database, identifier: str) -> Tenant:
    """Returns a tenant, whatever its status; raises `TenantUnknown`."""
    tenant = await directory_of(database).find(tenant_id(identifier))
    if tenant is None:
        raise unknown(identifier)
    return tenant


async def each_tenant(
    database: Database, statuses: Collection[TenantStatus] | None = None
) -> AsyncIterator[Tenant]:
    """Yields the tenants in order of their ids, read page by page; None: all but deleted."""
    async for page in pages(directory_of(database), statuses=statuses):
        for tenant in page:
            yield tenant


@contextmanager
def as_platform(database: Database) -> Iterator[None]:
    """Sets the current database and directory in the block, as in a platform activity."""
    with use_database(database), use_directory(directory_of(database)):
        yield


def environments(application: Application) -> Sequence[MigrationEnvironment]:
    """Returns all migration environments: the library's, then the application's."""
    return (*LIBRARY, *application.environments)


@contextmanager
def _migrated(application: Application) -> Iterator[None]:
    try:
        yield
    except ProgrammingError as error:
        url = application.platform.url
        if url is not None and getattr(error.orig, "sqlstate", None) in _LACKING:
            # Imported here: it loads Alembic, which no other command needs.
            from temporal_tenancy.postgres.migrations import refuse_pending

            refuse_pending(url, environments(application), installation=application.installation)
        raise
