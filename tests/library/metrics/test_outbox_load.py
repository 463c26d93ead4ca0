"""The gauges of the outbox with 100,000 messages that wait: one question, answered in time."""

from __future__ import annotations

import time

import pytest

from dev.devstack.postgres import DatabaseUrls
from temporal_tenancy.control_plane.directory import ControlPlaneDirectory
from temporal_tenancy.metrics import catalogue as of
from temporal_tenancy.metrics import gauges
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database import Database

MESSAGES = 100_000

_TENANTS = """
    insert into tenancy.tenants (id, name, plan_id, status)
    select 't' || n, 't', 'enterprise', case when n % 4 = 3 then 'suspended' else 'active' end
      from generate_series(0, {tenants} - 1) as n
"""
_FILL = """
    insert into tenancy.outbox_messages (tenant_id, job, key, payload, priority, scheduled_at)
    select 't' || n % {tenants}, 'test.note', 'k' || n, '{{}}', 1 + n % 5,
           now() + case when n % 5 = 0 then interval '1 day' else interval '-1 minute' end
      from generate_series(1, {messages}) as n
"""


@pytest.mark.parametrize("tenants", [1, 1_000, 20_000])
async def test_100_000_messages_that_wait_are_counted_in_full_and_in_time(
    relay_database: Database, database_urls: DatabaseUrls, tenants: int
) -> None:
    with connect(database_urls.superuser) as superuser:
        superuser.execute("set session_replication_role = replica")  # a fill without triggers
        superuser.execute(_TENANTS.format(tenants=tenants).encode())
        superuser.execute(_FILL.format(tenants=tenants, messages=MESSAGES).encode())
    with connect(database_urls.owner) as owner:
        owner.execute("analyze tenancy.outbox_messages")
    directory = ControlPlaneDirectory(relay_database)
    # Each statement has `STATEMENT_SECONDS`: one that reads too much is cancelled, and raises.
    began = time.perf_counter()
    found = await gauges.of_outbox(relay_database, directory)
    took = time.perf_counter() - began
    print(f"{tenants} tenants: {took * 1000:.0f} ms")
    assert took < gauges.STATEMENT_SECONDS
    assert found[of.IN_PART] == {("outbox",): 0}
    reasons = {reason: count for (reason,), count in found[of.MESSAGES].items()}
    assert sum(reasons.values()) == MESSAGES
    assert reasons["later"] == MESSAGES / 5
    assert (reasons["suspended"] > 0) == (tenants > 3)
