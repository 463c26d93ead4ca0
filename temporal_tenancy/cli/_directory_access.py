"""Whether the logins of the application's processes may read the tenant directory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from sqlalchemy.exc import DBAPIError, ProgrammingError

from temporal_tenancy.cli._not_reachable import NotReachable
from temporal_tenancy.cli._verdicts import Check, failed, ok, skipped
from temporal_tenancy.cli.program import Application, current_application
from temporal_tenancy.core.directory import TenantDirectory
from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.postgres.database_errors import DatabaseProblem, DatabaseUnreachable
from temporal_tenancy.postgres.sql_directory import DirectoryUnreadable

PATIENCE: Final = 10.0  # seconds for a directory's first tenant

_NAME: Final = "tenant directory"


async def refuse_unreadable(directory: TenantDirectory) -> None:
    """Reads one tenant.

    Any other failure than a missing right may pass, or be one tenant's own.

    Raises:
        DirectoryUnreadable: the role may not read the directory's tables.
    """
    try:
        async with asyncio.timeout(PATIENCE):
            await directory.page(limit=1)
    except DirectoryUnreadable:
        raise
    except Exception:  # noqa: S110  # an application's directory may raise anything
        pass


async def relays_directory_problem() -> str | None:
    """Returns why no relay can read the directory, as far as this process can know, or None."""
    application = current_application()
    if application.relay.url is None:
        return None
    with suppress(ConfigurationError, DatabaseProblem):
        async with _as_role(application, application.relay.url) as directory:
            try:
                await refuse_unreadable(directory)
            except DirectoryUnreadable as error:
                return error.message
    return None


async def directory_check() -> Check:
    """Checks that the platform's login and the relay's can read the directory."""
    application = current_application()
    roles = application.installation.roles
    logins = ((roles.platform, application.platform), (roles.relay, application.relay))
    read, problems = [], []
    for role, login in logins:
        if login.url is None:
            continue
        try:
            async with _as_role(application, login.url) as directory, asyncio.timeout(PATIENCE):
                await directory.page(limit=1)
        except (DatabaseUnreachable, NotReachable, TimeoutError):
            continue  # the check of the role says it
        except ProgrammingError as error:
            if not application.has_own_directory:
                continue  # the check of the migrations says it
            problems.append(f"{role} cannot read it: {str(error.orig).splitlines()[0]}.")
        except DBAPIError:
            continue
        except DatabaseProblem as error:
            problems.append(error.message)
        except ConfigurationError as error:
            problems.append(str(error))
        except Exception as error:  # an application's directory may raise anything
            problems.append(f"{role} cannot read it: {type(error).__name__}.")
        else:
            read.append(role)
    if problems:
        return failed(_NAME, "\n".join(dict.fromkeys(problems)))
    if not read:
        return skipped([_NAME], "the tenants cannot be read.")[0]
    return ok(_NAME, f"{' and '.join(read)} can read it.")


@asynccontextmanager
async def _as_role(application: Application, url: str) -> AsyncIterator[TenantDirectory]:
    """Yields the application's directory over the login of one role."""
    database = Database(
        platform_url=url, platform_pool_size=1, installation=application.installation
    )
    try:
        yield application.tenants(database)
    finally:
        await database.dispose()
