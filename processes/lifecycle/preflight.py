"""The checks before a process takes work, each with its error message."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from processes.connect import HOW_TO_START, plain, reaching
from processes.lifecycle.exits import WorkerExit
from saas.database.environment import TENANT_DATA
from saas.settings import Settings
from temporal_tenancy.cli import ExitCode, NotReachable, SettingMissing
from temporal_tenancy.lint import check_database
from temporal_tenancy.postgres import DatabaseProblem, MigrationsBehind
from temporal_tenancy.sdk import SearchAttributesMissing


@contextmanager
def refusing() -> Iterator[None]:
    """Turns what a server says in the block into `WorkerExit` with the right exit code.

    A wrong setting is a `ConfigurationError`, which `run_program` ends the process with.
    """
    try:
        with reaching():
            yield
    except (NotReachable, MigrationsBehind, SearchAttributesMissing) as error:
        raise WorkerExit(ExitCode.NOT_REACHABLE, error.sentence) from None
    except DatabaseProblem as error:
        raise WorkerExit(ExitCode.FAILED, error.sentence) from None


def refuse_owner_credentials(settings: Settings) -> None:
    """Raises `WorkerExit` when the database owner's URL is in the environment."""
    if settings.database_url is not None:
        raise WorkerExit(
            ExitCode.REFUSED,
            "ExcessRights: DATABASE_URL is set, but a worker must not have the owner's "
            'credentials. Unset it: "env -u DATABASE_URL python worker.py".',
        )


def runtime_urls(settings: Settings) -> list[str]:
    """Returns the URLs of the two runtime roles; raises `NotReachable` if one is not set."""
    urls = []
    for name in ("tenant_database_url", "platform_database_url"):
        url = plain(getattr(settings, name))
        if url is None:
            raise SettingMissing(f"{name.upper()} is not set. {HOW_TO_START}")
        urls.append(url)
    return urls


async def check_databases(settings: Settings) -> None:
    """Checks the databases as the runtime roles.

    Raises:
        NotReachable: a URL is not set.
        DatabaseUnreachable: a database does not answer.
        MigrationsBehind: a database lacks migrations.
        ExcessRights: a role has more rights than it should.
        InstallationElsewhere: the library's tables are in another schema.
    """
    for url in runtime_urls(settings):
        await asyncio.to_thread(check_one_database, url)


def check_one_database(url: str) -> None:
    """Checks one database as its role; raises the errors of `check_databases`."""
    check_database(url, [TENANT_DATA])
