"""A transaction's block says how it is opened if it is opened in the other way."""

from __future__ import annotations

import psycopg
import pytest

from dev.devstack.postgres import DatabaseUrls
from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.scope import TenantScope, enter
from temporal_tenancy.postgres.transactions import tenant_transaction
from tests.library.outbox.test_relay import plain_url


async def test_a_plain_with_on_an_async_connection_is_one_sentence(
    database_urls: DatabaseUrls,
) -> None:
    url = plain_url(database_urls.tenant)
    async with await psycopg.AsyncConnection.connect(url) as connection:
        with (
            enter(TenantScope("acme")),
            pytest.raises(ConfigurationError, match="Write: async with tenant_transaction"),
            tenant_transaction(connection),  # type: ignore[attr-defined]
        ):
            pass
        with enter(TenantScope("acme")):
            async with tenant_transaction(connection) as same:
                assert same is connection


async def test_an_async_with_on_a_plain_connection_is_one_sentence(
    database_urls: DatabaseUrls,
) -> None:
    with psycopg.connect(plain_url(database_urls.tenant)) as connection:
        with (
            enter(TenantScope("acme")),
            pytest.raises(ConfigurationError, match="Write: with tenant_transaction"),
        ):
            async with tenant_transaction(connection):  # type: ignore[attr-defined]
                pass
        with enter(TenantScope("acme")), tenant_transaction(connection) as same:
            assert same is connection
