"""The servers, for as long as a command needs them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from sqlalchemy.exc import ProgrammingError
from temporalio.client import Client

from processes import connect
from saas.database.tables import TENANT_DATA
from saas.settings import Settings, load_settings
from temporal_tenancy.control_plane.directory import ControlPlaneDirectory
from temporal_tenancy.core.directory import use_directory
from temporal_tenancy.core.migration_environment import LIBRARY, MigrationEnvironment
from temporal_tenancy.postgres.database import Database, use_database
from temporal_tenancy.postgres.migrations import refuse_pending

ENVIRONMENTS: Final[Sequence[MigrationEnvironment]] = (*LIBRARY, TENANT_DATA)
APPLICATION_NAME: Final = "starter"

_LACKING: Final = ("42P01", "42703")  # SQLSTATE: no such table, no such column


@dataclass(frozen=True)
class Temporal:
    """A client, and where people see what it does."""

    client: Client
    ui_url: str | None

    def link(self, workflow_id: str, run_id: str | None = None) -> str | None:
        """A run's page in the Web UI; its latest run's without `run_id`; None without a Web UI."""
        run = f"/{quote(run_id, safe='')}" if run_id else ""
        return self._page(f"workflows/{quote(workflow_id, safe='')}{run}")

    def schedule_link(self, schedule_id: str) -> str | None:
        """A schedule's page in the Web UI; None without a Web UI."""
        return self._page(f"schedules/{quote(schedule_id, safe='')}")

    def _page(self, path: str) -> str | None:
        if self.ui_url is None:
            return None
        return f"{self.ui_url.rstrip('/')}/namespaces/{self.client.namespace}/{path}"


@dataclass(frozen=True)
class Servers(Temporal):
    """Both of them."""

    database: Database


@asynccontextmanager
async def control_plane() -> AsyncIterator[Database]:
    """The database alone.

    Raises:
        NotReachable: it does not answer.
        MigrationsBehind: it lacks a table or column that the block asked for.
    """
    settings = load_settings()
    database = connect.database(settings, application_name=APPLICATION_NAME)
    try:
        with connect.reaching(), _migrated(settings):
            yield database
    finally:
        await database.dispose()


@asynccontextmanager
async def temporal() -> AsyncIterator[Temporal]:
    """Temporal alone; raises `NotReachable` where it does not answer."""
    settings = load_settings()
    with connect.reaching():
        yield Temporal(await connect.connect_client(), settings.temporal_ui_url)


@asynccontextmanager
async def servers() -> AsyncIterator[Servers]:
    """Both, as `control_plane` and `temporal`."""
    async with control_plane() as database:
        client = await connect.connect_client(database)
        yield Servers(client, load_settings().temporal_ui_url, database)


@contextmanager
def as_platform(database: Database) -> Iterator[None]:
    """Gives the library's own functions their database and tenants, as a platform activity has."""
    with use_database(database), use_directory(ControlPlaneDirectory(database)):
        yield


@contextmanager
def _migrated(settings: Settings) -> Iterator[None]:
    try:
        yield
    except ProgrammingError as error:
        url = connect.plain(settings.platform_database_url)
        if url is not None and getattr(error.orig, "sqlstate", None) in _LACKING:
            refuse_pending(url, ENVIRONMENTS)
        raise
