"""Keys by which a tenant's own programs call: made, listed, revoked, and found by what is sent."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Final
from uuid import UUID

from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from temporal_tenancy.control_plane.directory import ControlPlaneDirectory
from temporal_tenancy.control_plane.models import ApiKeyRow
from temporal_tenancy.core.directory import TenantStatus
from temporal_tenancy.core.errors import TenancyError, TenantOffboarding
from temporal_tenancy.core.tenant_state import unknown
from temporal_tenancy.postgres.database import Database

MARK: Final = "tk_"  # every key begins so, for those who look for keys where none should be
KEY_BYTES: Final = 32  # random ones
PREFIX_CHARACTERS: Final = len(MARK) + 6
NAME_MAX_CHARACTERS: Final = 100

_KEY: Final = re.compile(rf"{MARK}[A-Za-z0-9_-]{{43}}")  # 32 bytes in base64

# One statement a call. When it was used last is written once a minute: a busy key's row would else
# be what its calls wait for.
_FIND: Final = text("""
    with found as (
        select id, tenant_id, name, prefix, created_at, last_used_at, revoked_at
        from api_keys
        where digest = :digest and revoked_at is null
    ),
    used as (
        update api_keys set last_used_at = now()
        from found
        where api_keys.id = found.id and
            coalesce(found.last_used_at, '-infinity') < now() - interval '1 minute'
    )
    select * from found
""")


class ApiKeyUnknown(TenancyError):
    """The tenant has no such key."""


class ApiKeyNameRefused(TenancyError):
    """A key needs a name by which people know it."""


@dataclass(frozen=True)
class ApiKey:
    """A key as people see it."""

    id: UUID
    tenant_id: str
    name: str
    prefix: str  # the key's first characters
    created_at: datetime
    last_used_at: datetime | None  # to the minute
    revoked_at: datetime | None


class ApiKeys:
    """The table `api_keys`. Every call is the platform's work, and refused in a tenant's scope."""

    MARK: ClassVar = MARK
    """What every key begins with."""

    def __init__(self, database: Database) -> None:
        """`database` is where the control plane is."""
        self._database = database

    async def create(self, tenant_id: str, name: str) -> tuple[ApiKey, str]:
        """Makes a key of `tenant_id`; returns it, and what is to be sent, which nobody can again.

        Raises:
            TenantUnknown: there is no such tenant.
            TenantOffboarding: it is leaving, or gone.
            ApiKeyNameRefused: the name is empty, over 100 characters, or not one printable line.
        """
        if not name.strip() or len(name) > NAME_MAX_CHARACTERS or not name.isprintable():
            raise ApiKeyNameRefused(
                "a key's name is one line of at most 100 characters that says what it is for."
            )
        tenant = await ControlPlaneDirectory(self._database).find(tenant_id)
        if tenant is None:
            raise unknown(tenant_id)
        if tenant.status in (TenantStatus.OFFBOARDING, TenantStatus.DELETED):
            raise TenantOffboarding(f"{tenant_id} is {tenant.status}, and gets no new keys.")
        key = f"{MARK}{secrets.token_urlsafe(KEY_BYTES)}"
        async with self._database.platform_session("make an API key") as session:
            row = await session.scalar(
                insert(ApiKeyRow)
                .values(
                    tenant_id=tenant_id,
                    name=name,
                    digest=_digest(key),
                    prefix=key[:PREFIX_CHARACTERS],
                )
                .returning(ApiKeyRow)
            )
            assert row is not None
            return _key_of(row), key

    async def list(self, tenant_id: str) -> Sequence[ApiKey]:
        """A tenant's keys, the oldest first, with those that were revoked.

        Raises:
            TenantUnknown: there is no such tenant.
        """
        if await ControlPlaneDirectory(self._database).find(tenant_id) is None:
            raise unknown(tenant_id)
        query = (
            select(ApiKeyRow)
            .where(ApiKeyRow.tenant_id == tenant_id)
            .order_by(ApiKeyRow.created_at, ApiKeyRow.id)
        )
        async with self._database.platform_session("list API keys") as session:
            return [_key_of(row) for row in await session.scalars(query)]

    async def revoke(self, tenant_id: str, key_id: UUID) -> ApiKey:
        """Lets nobody in by a key from now on; one that was revoked stays so.

        Raises:
            ApiKeyUnknown: the tenant has no such key.
        """
        changed = (
            update(ApiKeyRow)
            .where(ApiKeyRow.tenant_id == tenant_id, ApiKeyRow.id == key_id)
            .values(revoked_at=func.coalesce(ApiKeyRow.revoked_at, func.now()))
            .returning(ApiKeyRow)
        )
        async with self._database.platform_session("revoke an API key") as session:
            row = await session.scalar(changed)
            if row is None:
                raise ApiKeyUnknown(f"{tenant_id} has no key {key_id}. Name one of its own.")
            return _key_of(row)

    async def find(self, key: str) -> ApiKey | None:
        """The key that was sent; None where there is none such, or it was revoked. One query."""
        if not _KEY.fullmatch(key):
            return None
        async with self._database.platform_session("look up an API key") as session:
            row = (await session.execute(_FIND, {"digest": _digest(key)})).one_or_none()
            return None if row is None else ApiKey(*row)


def _digest(key: str) -> bytes:
    # A quick hash is right here, where for a password it is not: there is nothing to guess in 256
    # random bits, and a slow one would only be paid for by each call.
    return hashlib.sha256(key.encode()).digest()


def _key_of(row: ApiKeyRow) -> ApiKey:
    return ApiKey(
        id=row.id,
        tenant_id=row.tenant_id,
        name=row.name,
        prefix=row.prefix,
        created_at=row.created_at,
        last_used_at=row.last_used_at,
        revoked_at=row.revoked_at,
    )
