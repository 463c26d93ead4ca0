"""A tenant in a database of its own, beside one in the shared tables: the same jobs, by processes.

The worker and the relay are those that an operator runs, and a person asks with starter.py.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.core.directory import STATE_CACHE_SECONDS
from temporal_tenancy.postgres.connections import connect
from tests.fixtures.apart import Apart
from tests.fixtures.starter import Said, Starter
from tests.fixtures.worker_process import StartWorker

CONTACTS = "email,name\nann@a.example,Ann\nbob@a.example,Bob\nnobody,No\n"
TICK = "2013-04"


async def test_jobs_of_every_kind_run_for_a_tenant_in_a_database_of_its_own(
    starter: Starter,
    start_worker: StartWorker,
    apart: Apart,
    tenants: Tenants,
    tmp_path: Path,
) -> None:
    variables = {
        "CONNECTIONS_URL": (tmp_path / "connections").as_uri(),
        "STORAGE_URL": (tmp_path / "objects").as_uri(),
    }
    urls = await apart.add("own", plan="enterprise")
    await tenants.add("shared", "Shared", plan="enterprise")
    file = tmp_path / "people.csv"
    file.write_text(CONTACTS)

    async def said(*arguments: str, code: int = 0) -> Said:
        done = await starter(*arguments, "--json", **variables)
        assert done.code == code, done.err + done.out
        return done

    worker = start_worker(**variables)
    relay = start_worker(
        "--relay", **variables, RELAY_STORE_POLL="PT0.1S", RELAY_DATABASE_URL=apart.urls.relay
    )
    await worker.until_ready()
    await relay.until_ready()
    of_each = ("own", "shared")
    # A job that a message starts, in the transaction of its data: both tenants' are the same.
    imports = {
        tenant: (await said("imports", "start", str(file), "--tenant", tenant, "--wait")).document
        for tenant in of_each
    }
    for tenant, done in imports.items():
        assert (done["tenant_id"], done["status"]) == (tenant, "completed")
        assert (done["imported"], done["rejected"]) == (2, 1)
    for tenant in of_each:
        export = ("exports", "start", "contacts", "--tenant", tenant, "--wait")
        assert (await said(*export)).document["status"] == "completed"
    # A fan-out, which knows tenants and not where their rows are.
    fan_out = (await said("fan-out", "billing.cycle", "--tick", TICK, "--wait")).document
    assert (fan_out["succeeded"], fan_out["failed"]) == (2, 0)
    # A dead letter of a message, mended by a person and replayed.
    await said("tenants", "set", "own", "--plan", "free")
    await asyncio.sleep(STATE_CACHE_SECONDS)  # or the relay still takes the plan before
    period = '{"period": "2013-04"}'
    await said("enqueue", "analytics.aggregate", "--tenant", "own", "--input", period)
    letters: list[dict[str, str]] = []
    while not letters:
        letters = (await said("dead-letters", "list", "--tenant", "own")).document
    [letter] = letters
    assert (letter["job"], letter["source"]) == ("analytics.aggregate", "relay")
    assert letter["error_type"] == "FeatureNotEnabled"
    await said("tenants", "set", "own", "--plan", "enterprise")
    replayed = (await said("dead-letters", "replay", letter["id"], "--wait")).document
    assert [each["ended"] for each in replayed["letters"]] == ["succeeded"]
    [settled] = (await said("dead-letters", "list", "--tenant", "own")).document
    assert settled["status"] == "resolved"
    # Each database has the rows of its own tenant alone; letters are in the control plane.
    for url, tenant in ((urls.superuser, "own"), (apart.urls.superuser, "shared")):
        with connect(url) as superuser:
            for table in ("contacts", "imports", "exports", "invoices", "audit_entries"):
                query = f'select distinct tenant_id from public."{table}"'
                assert superuser.execute(query.encode()).fetchall() == [(tenant,)], table
    with connect(urls.superuser) as superuser:
        assert superuser.execute("select from tenancy.dead_letters").fetchall() == []
