"""Creates, lists and revokes the keys with which tenants' programs call the HTTP API."""

from __future__ import annotations

from dataclasses import asdict
from uuid import UUID

import typer

from processes.cli.program import PROGRAM
from temporal_tenancy import tenant_id
from temporal_tenancy.cli import Answer, control_plane, lines, minute, table, when
from temporal_tenancy.control_plane import ApiKeys


async def create(tenant: str, name: str) -> Answer:
    """Creates a key and shows it once; raises a `TenancyError` if the tenant cannot have one."""
    async with control_plane() as database:
        made, key = await ApiKeys(database).create(tenant_id(tenant), name)
    text = lines(
        f"{made.id} is a key of {made.tenant_id}. It is shown now, and never again:",
        key,
        'It is sent as "Authorization: Bearer <key>".',
    )
    return Answer({**asdict(made), "id": str(made.id), "key": key}, text)


async def show_all(tenant: str) -> Answer:
    """Lists a tenant's keys, including revoked ones; raises `TenantUnknown`."""
    async with control_plane() as database:
        found = await ApiKeys(database).list(tenant_id(tenant))
    rows = [
        (
            *(k.id, k.name, f"{k.prefix}…"),
            *(minute(k.created_at), minute(k.last_used_at), minute(k.revoked_at)),
        )
        for k in found
    ]
    return Answer(
        [{**asdict(key), "id": str(key.id)} for key in found],
        table(
            ("id", "name", "key", "created", "last used", "revoked"),
            rows,
            empty=f"{tenant} has no keys.",
        ),
    )


async def revoke(tenant: str, identifier: str) -> Answer:
    """Revokes a key; raises `ApiKeyUnknown` if the tenant does not have it."""
    try:
        key_id = UUID(identifier)
    except ValueError:
        raise typer.BadParameter(
            f'a key\'s id is a UUID, which "{PROGRAM.name} api-keys list --tenant {tenant}" shows.',
            param_hint="ID",
        ) from None
    async with control_plane() as database:
        revoked = await ApiKeys(database).revoke(tenant_id(tenant), key_id)
    return Answer(
        {**asdict(revoked), "id": str(revoked.id)},
        f"{revoked.id} is revoked since {when(revoked.revoked_at)}.",
    )
