"""The tenant's session of a request."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends
from sqlalchemy.ext.asyncio import AsyncSession

from temporal_tenancy.postgres.database import tenant_session


async def _session() -> AsyncIterator[AsyncSession]:
    async with tenant_session() as session:
        yield session


# It commits before the response: what follows the response could tell nobody that it failed.
TenantSession = Annotated[AsyncSession, Depends(_session, scope="function")]
"""A parameter of an endpoint: a `tenant_session()` that commits before the response is sent."""
