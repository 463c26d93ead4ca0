"""API keys: what the table stores, and which keys are accepted."""

from __future__ import annotations

import uuid

import pytest
from sqlalchemy import text

from temporal_tenancy.control_plane._api_keys import ApiKeyNameRefused, ApiKeys, ApiKeyUnknown
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.core.directory import TenantStatus
from temporal_tenancy.core.errors import ScopeMissing, TenantOffboarding, TenantUnknown
from temporal_tenancy.postgres.database import Database
from tests.fixtures.postgres import within


@pytest.fixture
def keys(database: Database, two_tenants: None) -> ApiKeys:
    return ApiKeys(database)


async def stored(database: Database) -> str:
    """Returns everything that the table holds, as text."""
    async with database.platform_session("read keys in a test") as session:
        rows = await session.execute(text("select to_jsonb(k)::text from tenancy.api_keys k"))
        return "\n".join(rows.scalars())


async def set_last_use(database: Database, interval: str) -> None:
    async with database.platform_session("age a key in a test") as session:
        await session.execute(
            text("update tenancy.api_keys set last_used_at = now() - cast(:interval as interval)"),
            {"interval": interval},
        )


async def test_a_key_finds_its_tenant_and_is_kept_nowhere(
    database: Database, keys: ApiKeys
) -> None:
    made, key = await keys.create("acme", "the shop")
    found = await keys.find(key)
    assert found is not None
    assert (found.tenant_id, found.id, found.name) == ("acme", made.id, "the shop")
    assert key.startswith(made.prefix)
    secret = key[len(made.prefix) :]
    assert len(secret) > 32
    assert secret not in await stored(database)


async def test_each_key_is_another(keys: ApiKeys) -> None:
    made = [(await keys.create("acme", "one"))[1] for _ in range(3)]
    assert len(set(made)) == 3


@pytest.mark.parametrize(
    "sent", ["", "tk_", "nobody", f"tk_{'A' * 43}", f"tk_{'A' * 42}\x00", f"tk_{'A' * 4000}"]
)
async def test_what_is_no_key_finds_nobody(keys: ApiKeys, sent: str) -> None:
    await keys.create("acme", "one")
    assert await keys.find(sent) is None


async def test_a_revoked_key_finds_nobody_from_then_on(keys: ApiKeys) -> None:
    made, key = await keys.create("acme", "one")
    _, other = await keys.create("acme", "two")
    revoked = await keys.revoke("acme", made.id)
    assert await keys.find(key) is None
    assert await keys.find(other) is not None
    assert await keys.revoke("acme", made.id) == revoked


async def test_another_tenants_key_can_be_neither_revoked_nor_seen(keys: ApiKeys) -> None:
    made, key = await keys.create("acme", "one")
    with pytest.raises(ApiKeyUnknown):
        await keys.revoke("globex", made.id)
    with pytest.raises(ApiKeyUnknown):
        await keys.revoke("acme", uuid.uuid4())
    assert await keys.list("globex") == []
    assert await keys.find(key) is not None


async def test_its_use_is_written_once_a_minute(database: Database, keys: ApiKeys) -> None:
    _, key = await keys.create("acme", "one")
    [unused] = await keys.list("acme")
    assert unused.last_used_at is None
    await keys.find(key)
    [first] = await keys.list("acme")
    await keys.find(key)
    [second] = await keys.list("acme")
    assert first.last_used_at is not None
    assert second.last_used_at == first.last_used_at
    await set_last_use(database, "61 seconds")
    await keys.find(key)
    [third] = await keys.list("acme")
    assert third.last_used_at is not None
    assert third.last_used_at > first.last_used_at


async def test_who_is_gone_or_was_never_there_gets_no_key(keys: ApiKeys, tenants: Tenants) -> None:
    await tenants.set_status("globex", TenantStatus.OFFBOARDING)
    with pytest.raises(TenantOffboarding):
        await keys.create("globex", "one")
    with pytest.raises(TenantUnknown):
        await keys.create("nobody", "one")


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 101])
async def test_a_key_has_a_name_of_one_line(keys: ApiKeys, name: str) -> None:
    with pytest.raises(ApiKeyNameRefused):
        await keys.create("acme", name)


async def test_a_tenants_code_cannot_ask_for_keys(database: Database, keys: ApiKeys) -> None:
    _, key = await keys.create("acme", "one")
    with within(database, "acme"), pytest.raises(ScopeMissing):
        await keys.find(key)
