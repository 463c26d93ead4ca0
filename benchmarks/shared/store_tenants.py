"""Tenants in stores of each isolation, for benchmarks of sessions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from psycopg import sql

from benchmarks.shared.servers import Servers
from dev.devstack.postgres import DatabaseUrls
from saas.database.environment import TENANT_DATA
from temporal_tenancy import Isolation, Store
from temporal_tenancy.postgres import TENANT_ROLE, connect
from temporal_tenancy.stores import Preparation

SHARED: Final = Store("shared")


@dataclass(frozen=True)
class Places:
    """A directory of stores in memory; a tenant that it does not name is in the shared one."""

    stores: Mapping[str, Store]

    async def store_of(self, tenant_id: str) -> Store:
        """Returns the tenant's store."""
        return self.stores.get(tenant_id, SHARED)


def schema_store(urls: DatabaseUrls, tenant: str) -> Store:
    """Prepares a schema in the database of `urls`, as `stores add` does, for a tenant."""
    name = Preparation(urls.owner, application=[TENANT_DATA]).prepare(Isolation.SCHEMA)
    with connect(urls.owner) as owner:
        owner.execute(
            sql.SQL("update {} set tenant_id = %s").format(sql.Identifier(name, "store_identity")),
            [tenant],
        )
    return Store(name, Isolation.SCHEMA, schema=name, role=name)


def database_stores(servers: Servers, template: str, tenants: Sequence[str]) -> Mapping[str, Store]:
    """Copies a migrated database for each tenant; nothing may be connected to it."""
    stores = {}
    for tenant in tenants:
        name = f"store_of_{tenant}"
        urls = servers.copy_database(name, template)
        with connect(urls.owner) as owner:
            owner.execute(
                "create table store_identity "
                "(store text, tenant_id text, one_row boolean primary key default true)"
            )
            owner.execute(
                sql.SQL("grant select on store_identity to {}").format(sql.Identifier(TENANT_ROLE))
            )
            owner.execute("insert into store_identity values (%s, %s)", [name, tenant])
        stores[tenant] = Store(name, Isolation.DATABASE, url=urls.tenant)
    return stores
