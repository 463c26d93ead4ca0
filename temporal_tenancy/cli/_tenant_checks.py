"""The doctor's check of the tenants in the application's directory."""

from __future__ import annotations

from typing import Final

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from temporal_tenancy.cli._directory_access import directory_check
from temporal_tenancy.cli._not_reachable import NotReachable
from temporal_tenancy.cli._server_access import control_plane, each_tenant
from temporal_tenancy.cli._verdicts import Check, failed, ok, skipped
from temporal_tenancy.core.display import printable
from temporal_tenancy.core.due_times import zone_names
from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.words import number
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.postgres.database_errors import DatabaseProblem

SHOWN: Final = 5  # tenants in a sentence

_NAME: Final = "time zones"
_ZONES: Final = text("select name from pg_timezone_names")


async def tenant_checks() -> list[Check]:
    """Checks who can read the tenants, and that all parts know every tenant's time zone."""
    readable = await directory_check()
    try:
        async with control_plane() as database:
            return [readable, await _time_zones(database)]
    except (NotReachable, DatabaseProblem, ConfigurationError, SQLAlchemyError):
        return [readable, *skipped([_NAME], "the tenants cannot be read.")]


async def _time_zones(database: Database) -> Check:
    try:
        async with database.platform_session("read the known time zones") as session:
            known = zone_names() & set(await session.scalars(_ZONES))
    except DBAPIError as error:  # a file of the server's that is missing, say
        reason = printable(str(error.orig).splitlines()[0])
        return skipped([_NAME], f"PostgreSQL does not list its own: {reason}.")[0]
    wrong = [
        f"{tenant.id} ({printable(tenant.time_zone)})"
        async for tenant in each_tenant(database)
        if tenant.time_zone not in known
    ]
    if wrong:
        shown = ", ".join(wrong[:SHOWN])
        more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        return failed(
            _NAME,
            f"{number(len(wrong), 'tenant')} in a time zone that not every part knows: {shown}"
            f"{more}. Their jobs are skipped. Give each an IANA name, such as Asia/Bangkok.",
        )
    return ok(_NAME, "every tenant's is known to Python and to PostgreSQL.")
