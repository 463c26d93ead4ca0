"""The shop's customers, as the library's tenants."""

from datetime import UTC, datetime

import psycopg
from psycopg.rows import dict_row

from temporal_tenancy import Plan, Tenant, TenantStatus

STANDARD = Plan(id="standard")
SINCE = datetime(2024, 1, 1, tzinfo=UTC)


class Customers:
    """Reads the table `customers`."""

    def __init__(self, url):
        self.url = url

    async def _read(self, query, parameters):
        async with await psycopg.AsyncConnection.connect(
            self.url, autocommit=True, row_factory=dict_row
        ) as connection:
            rows = await (await connection.execute(query, parameters)).fetchall()
        return [
            Tenant(
                id=row["id"],
                name=row["name"],
                status=TenantStatus.DELETED if row["closed"] else TenantStatus.ACTIVE,
                status_since=SINCE,
                plan=STANDARD,
            )
            for row in rows
        ]

    async def find(self, tenant_id):
        found = await self.find_many([tenant_id])
        return found[0] if found else None

    async def find_many(self, tenant_ids):
        return await self._read("select * from customers where id = any(%s)", [list(tenant_ids)])

    async def page(self, *, after=None, limit, statuses=None, time_zones=None):
        if time_zones is not None and "UTC" not in time_zones:
            return []
        if statuses is None:
            statuses = [TenantStatus.ACTIVE]
        closed = [s is TenantStatus.DELETED for s in statuses
                  if s in (TenantStatus.ACTIVE, TenantStatus.DELETED)]
        return await self._read(
            """select * from customers
               where (%(after)s::text is null or id collate "C" > %(after)s)
               and closed = any(%(closed)s) order by id collate "C" limit %(limit)s""",
            {"after": after, "closed": closed, "limit": limit},
        )
