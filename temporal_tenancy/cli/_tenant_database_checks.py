"""The doctor's check of tenants' own databases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from temporal_tenancy.cli._not_reachable import NotReachable
from temporal_tenancy.cli._server_access import control_plane
from temporal_tenancy.cli._verdicts import Check, failed, ok, skipped
from temporal_tenancy.cli.program import current_application
from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.words import number
from temporal_tenancy.outbox.store_outboxes import Asked, ask_stores
from temporal_tenancy.postgres.database_errors import DatabaseProblem

NAME: Final = "tenants' databases"
SHOWN: Final = 5  # stores in a message


async def tenant_database_checks() -> Sequence[Check]:
    """Checks that a relay can work off each tenant's own database; nothing where there is none."""
    application = current_application()
    try:
        async with control_plane() as database:
            asked = await ask_stores(
                database, application.connections, _answers, installation=application.installation
            )
    except (NotReachable, DatabaseProblem, ConfigurationError, SQLAlchemyError):
        return skipped([NAME], "the stores cannot be read.")
    return [_verdict(asked)] if asked else []


async def _answers(session: AsyncSession) -> bool:
    return True  # opening the session has compared whose store it is


def _verdict(asked: Sequence[Asked[bool]]) -> Check:
    away = [(each.tenant_id, each.why) for each in asked if each.why is not None]
    if not away:
        return ok(
            NAME,
            f"{number(len(asked), 'database answers', 'databases answer')} the relay's role, and "
            "each is its tenant's.",
        )
    first = f"{number(len(away), 'tenant waits', 'tenants wait')} for a database of their own:"
    listed = [f"{tenant}: {why}" for tenant, why in away[:SHOWN]]
    more = [f"and {len(away) - SHOWN:,} more."] if len(away) > SHOWN else []
    return failed(NAME, "\n".join([first, *listed, *more]))
