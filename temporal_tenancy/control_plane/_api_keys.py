"""API keys for a tenant's own programs: creates, lists, revokes and verifies them."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Final
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert

from temporal_tenancy.control_plane.directory import ControlPlaneDirectory
from temporal_tenancy.control_plane.tables import ApiKeyRow
from temporal_tenancy.core.directory import TenantStatus
from temporal_tenancy.core.errors import TenancyError, TenantOffboarding
from temporal_tenancy.core.identifiers import may_exist
from temporal_tenancy.core.tenant_state import unknown
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.postgres.library_text import library_text

MARK: Final = "tk_"  # the prefix of every key, so that scanners recognize a leaked one
KEY_BYTES: Final = 32  # of randomness
PREFIX_CHARACTERS: Final = len(MARK) + 6
NAME_MAX_CHARACTERS: Final = 100

_KEY: Final = re.compile(rf"{MARK}[A-Za-z0-9_-]{{43}}")  # 32 bytes in base64

# One statement per call. The time of last use is written at most once a minute; otherwise the calls
# of a busy key would wait for its row lock.
_FIND: Final = library_text("""
    with found as (
        select id, tenant_id, name, prefix, created_at, last_used_at, revoked_at
        from tenancy.api_keys
        where digest = :digest and revoked_at is null
    ),
    used as (
        update tenancy.api_keys set last_used_at = now()
        from found
        where api_keys.id = found.id and
            coalesce(found.last_used_at, '-infinity') < now() - interval '1 minute'
    )
    select * from found
""")


class ApiKeyUnknown(TenancyError):
    """The tenant has no such key."""


class ApiKeyNameRefused(TenancyError):
    """A key needs a name that users recognize."""


@dataclass(frozen=True)
class ApiKey:
    """A key as users see it, without the secret."""

    id: UUID
    tenant_id: str
    name: str
    prefix: str  # the key's first characters
    created_at: datetime  # aware, like the others
    last_used_at: datetime | None  # written at most once a minute; None: never used
    revoked_at: datetime | None  # None: valid


class ApiKeys:
    """The table `api_keys`. Every method runs as the platform.

    Raises:
        ScopeMissing: a method was called in a tenant's scope.
    """

    MARK: ClassVar = MARK
    """The prefix of every key."""

    def __init__(self, database: Database) -> None:
        """
        Args:
            database: the one with the control plane's tables.
        """
        self._database = database

    async def create(self, tenant_id: str, name: str) -> tuple[ApiKey, str]:
        """Creates a key of a tenant.

        Returns:
            The key's record, and the secret that programs send. The secret is not stored and cannot
            be returned again.

        Raises:
            TenantUnknown: there is no such tenant.
            TenantOffboarding: it is being offboarded or has been deleted.
            ApiKeyNameRefused: the name is empty, over 100 characters, or not one printable line.
        """
        if not name.strip() or len(name) > NAME_MAX_CHARACTERS or not name.isprintable():
            raise ApiKeyNameRefused(
                "a key's name must be one printable line of 1 to 100 characters. Say what the key "
                "is for."
            )
        tenant = await ControlPlaneDirectory(self._database).find(tenant_id)
        if tenant is None:
            raise unknown(tenant_id)
        if tenant.status in (TenantStatus.OFFBOARDING, TenantStatus.DELETED):
            raise TenantOffboarding(f"{tenant_id} is {tenant.status} and cannot get new keys.")
        key = f"{MARK}{secrets.token_urlsafe(KEY_BYTES)}"
        async with self._database.platform_session("create an API key") as session:
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
        """Returns a tenant's keys, including revoked ones, oldest first.

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
        """Revokes a key and returns it; a key that is revoked already does not change.

        Raises:
            ApiKeyUnknown: the tenant has no such key.
        """
        changed = (
            update(ApiKeyRow)
            .where(ApiKeyRow.tenant_id == tenant_id, ApiKeyRow.id == key_id)
            .values(revoked_at=func.coalesce(ApiKeyRow.revoked_at, func.now()))
            .returning(ApiKeyRow)
        )
        missing = ApiKeyUnknown(f"{tenant_id} has no key {key_id}. Use the id of one of its keys.")
        if not may_exist(tenant_id):
            raise missing
        async with self._database.platform_session("revoke an API key") as session:
            row = await session.scalar(changed)
            if row is None:
                raise missing
            return _key_of(row)

    async def find(self, key: str) -> ApiKey | None:
        """Returns the key with this secret, or None if it is unknown or revoked. One query."""
        if not _KEY.fullmatch(key):
            return None
        async with self._database.platform_session("look up an API key") as session:
            row = (await session.execute(_FIND, {"digest": _digest(key)})).one_or_none()
            return None if row is None else ApiKey(*row)


def _digest(key: str) -> bytes:
    # A fast hash is enough, unlike for passwords: 256 random bits cannot be guessed, and a slow one
    # would only delay each call.
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
