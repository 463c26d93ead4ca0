"""The how-tos for other applications: their samples are put together, and run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import make_url

from dev.devstack.postgres import DatabaseUrls
from dev.devstack.processes import OwnedProcess
from dev.devstack.temporal_server import TemporalDevServer
from temporal_tenancy.postgres import connect, migrate, protect_sql
from tests.system.project.test_docs import DOCS, ROOT, blocks, python_file

HOW_TOS = DOCS / "how-to"
# The job that the samples of FastAPI and psycopg request.
JOB = """
from pydantic import ConfigDict
from temporal_tenancy import TenantInput, tenant_job
from temporalio import workflow

class ConfirmOrder(TenantInput):
    item: str = ""
    order_id: int = 0

@tenant_job("orders.confirm", queue="default")
class ConfirmOrders:
    @workflow.run
    async def run(self, job: ConfirmOrder) -> None: ...
"""
FASTAPI = f"""
import asyncio, httpx
{JOB}
from myapp.api import application

async def main():
    transport = httpx.ASGITransport(application)
    async with httpx.AsyncClient(transport=transport, base_url="http://myapp") as client:
        for tenant, item in (("acme", "lamp"), ("globex", "desk"), ("acme", "chair")):
            client.headers["Authorization"] = f"Bearer token of {{tenant}}"
            assert (await client.post("/orders", params={{"item": item}})).status_code == 200
        print((await client.get("/orders")).json())
        client.headers["Authorization"] = ""
        print((await client.get("/orders")).status_code)

asyncio.run(main())
"""
PSYCOPG = f"""
import asyncio, os, psycopg
from psycopg_pool import ConnectionPool
{JOB}
from myapp.orders import items, take_order
from myapp.tables import create_tables

create_tables(os.environ["OWNER_DATABASE_URL"])
url = os.environ["TENANT_DATABASE_URL"]
with ConnectionPool(url, min_size=1, max_size=1) as pool:
    take_order(pool, "acme", "lamp")
    take_order(pool, "globex", "desk")
    print(take_order(pool, "acme", "chair"))

async def main():
    async with await psycopg.AsyncConnection.connect(url) as connection:
        print(await items(connection, "globex"))

asyncio.run(main())
"""
PARCELS = """
import os, psycopg
from uuid import uuid4
from depot.migrations.m0001_parcels import upgrade
from temporal_tenancy import TenantInvalid, TenantScope, current_tenant, enter, tenant_transaction

with psycopg.connect(os.environ["OWNER_DATABASE_URL"]) as owner:
    upgrade(owner)
INSERT = "insert into parcels values (cast(%s as uuid), %s, 1)"
ids = [str(uuid4()), str(uuid4())]
with psycopg.connect(os.environ["TENANT_DATABASE_URL"], autocommit=True) as connection:
    for tenant in ids:
        with enter(TenantScope(tenant)), tenant_transaction(connection):
            connection.execute(INSERT, [current_tenant(), uuid4()])
            print(connection.execute("select count(*) from parcels").fetchall())
try:
    TenantScope(ids[0].upper() + "F")
except TenantInvalid as error:
    print(error.type)
"""
LOAVES = """
import django
django.setup()
from django.test import Client as Browser

browser = Browser()
for token, kind in (("one", "rye"), ("two", "white"), ("one", "spelt")):
    headers = {"Authorization": f"Bearer {token}"}
    answer = browser.get("/loaves", {"kind": kind}, headers=headers)
print(answer.json()["loaves"])
"""
DJANGO = """
import django
django.setup()
from django.test import Client as Browser

browser = Browser()
for tenant, item in (("acme", "lamp"), ("globex", "desk"), ("acme", "chair")):
    headers = {"Authorization": f"Bearer token of {tenant}"}
    answer = browser.get("/orders", {"item": item}, headers=headers)
print(answer.json()["items"])
"""


@pytest.fixture
def urls(empty_urls: DatabaseUrls) -> DatabaseUrls:
    """A database with the library's tables alone."""
    migrate(
        empty_urls.owner,
        tenant_url=empty_urls.tenant,
        platform_url=empty_urls.platform,
        relay_url=empty_urls.relay,
    )
    return empty_urls


def put_together(page: str, folder: Path) -> None:
    """Writes the samples of a page as the files that they claim to be."""
    for block in blocks(HOW_TOS / page, "python"):
        file = python_file(block)
        assert file is not None
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        for package in path.relative_to(folder).parents:
            (folder / package / "__init__.py").touch()
        path.write_text(block)


def run(folder: Path, *words: str, **environment: str) -> str:
    """Runs Python in `folder`; returns its output."""
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{folder}:{ROOT}", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def plain(url: str) -> str:
    return url.replace("postgresql+psycopg", "postgresql")


def as_role(url: str) -> dict[str, str]:
    """Returns a URL as libpq's variables."""
    parsed = make_url(url)
    return {
        "PGHOST": str(parsed.host),
        "PGPORT": str(parsed.port),
        "PGDATABASE": str(parsed.database),
        "PGUSER": str(parsed.username),
        "PGPASSWORD": str(parsed.password),
    }


def requested(urls: DatabaseUrls) -> list[str]:
    """Returns the tenants of the messages, in order."""
    with connect(urls.relay) as relay:
        return [
            tenant
            for (tenant,) in relay.execute(
                "select tenant_id from tenancy.outbox_messages order by id"
            )
        ]


def test_fastapi(urls: DatabaseUrls, tmp_path: Path) -> None:
    put_together("use-fastapi.md", tmp_path)
    with connect(urls.owner) as owner:
        owner.execute("""
            create table orders (
                tenant_id text, id bigint generated always as identity, item text not null,
                primary key (tenant_id, id)
            )
        """)
        owner.execute(protect_sql("orders").encode())
    said = run(tmp_path, "-c", FASTAPI, TENANT_DATABASE_URL=urls.tenant)
    assert said == "['lamp', 'chair']\n401\n"
    assert requested(urls) == ["acme", "globex", "acme"]


def test_psycopg(urls: DatabaseUrls, tmp_path: Path) -> None:
    put_together("use-psycopg.md", tmp_path)
    said = run(
        tmp_path,
        "-c",
        PSYCOPG,
        TENANT_DATABASE_URL=plain(urls.tenant),
        OWNER_DATABASE_URL=plain(urls.owner),
    )
    assert said == "['lamp', 'chair']\n['desk']\n"
    assert requested(urls) == ["acme", "globex", "acme"]


def test_a_column_of_type_uuid_without_sqlalchemy(urls: DatabaseUrls, tmp_path: Path) -> None:
    put_together("use-psycopg.md", tmp_path)
    roles = {"TENANT_DATABASE_URL": plain(urls.tenant), "OWNER_DATABASE_URL": plain(urls.owner)}
    assert run(tmp_path, "-c", PARCELS, **roles) == "[(1,)]\n[(1,)]\nTenantInvalid\n"


def test_the_policies_as_a_file_of_sql(urls: DatabaseUrls, tmp_path: Path) -> None:
    [line] = re.findall(r"^python -c '(.*)' >", (HOW_TOS / "use-psycopg.md").read_text(), re.M)
    statements = run(tmp_path, "-c", line)
    with connect(urls.owner) as owner:
        owner.execute(
            "create table orders (tenant_id text, id bigint, primary key (tenant_id, id))"
        )
        owner.execute(statements.encode())
        owner.execute(statements.encode())  # it can be repeated
        found = owner.execute("select relforcerowsecurity from pg_class where relname = 'orders'")
        assert found.fetchall() == [(True,)]


def test_django_with_integer_ids(urls: DatabaseUrls, tmp_path: Path) -> None:
    for page in ("use-django.md", "use-django-with-integer-ids.md"):
        put_together(page, tmp_path)
    settings = {"DJANGO_SETTINGS_MODULE": "bakery.settings"}
    tenant = as_role(urls.tenant) | settings
    assert "No changes" in run(tmp_path, "manage.py", "makemigrations", "--check", **tenant)
    assert "OK" in run(tmp_path, "manage.py", "migrate", **as_role(urls.owner), **settings)
    with connect(urls.owner) as owner:
        owner.execute("""
            insert into bakery_company (name, token, closed)
            values ('One', 'one', false), ('Two', 'two', false), ('Gone', 'gone', true)
        """)
    assert run(tmp_path, "-c", LOAVES, **tenant) == "[[1, 'rye'], [1, 'spelt']]\n"
    listed = run(
        tmp_path,
        *("manage.py", "tenancy", "tenants", "list", "--json"),
        PLATFORM_DATABASE_URL=urls.platform,
        TENANT_DATABASE_URL=urls.tenant,
        **tenant,
    )
    assert [(each["id"], each["name"]) for each in json.loads(listed)] == [
        ("1", "One"),
        ("2", "Two"),
    ]


def test_django(
    urls: DatabaseUrls, tmp_path: Path, temporal: TemporalDevServer, namespace: str
) -> None:
    put_together("use-django.md", tmp_path)
    tenant = as_role(urls.tenant) | {
        "DJANGO_SETTINGS_MODULE": "shop.settings",
        "TENANT_DATABASE_URL": urls.tenant,
        "PLATFORM_DATABASE_URL": urls.platform,
        "RELAY_DATABASE_URL": urls.relay,
        "TEMPORAL_ADDRESS": temporal.address,
        "TEMPORAL_NAMESPACE": namespace,
    }
    assert "No changes" in run(tmp_path, "manage.py", "makemigrations", "--check", **tenant)
    assert "OK" in run(tmp_path, "manage.py", "migrate", **as_role(urls.owner))
    said = run(tmp_path, "-c", DJANGO, **tenant)
    assert said == "['lamp', 'chair']\n"
    counted = run(tmp_path, "manage.py", "count_orders", "--tenant", "globex", **tenant)
    assert counted == "1\n"
    assert requested(urls) == ["acme", "globex", "acme"]

    tenancy = ("manage.py", "tenancy")
    run(tmp_path, *tenancy, "tenants", "add", "acme", **tenant)
    worker = OwnedProcess(
        ["/usr/bin/env", "-C", str(tmp_path), sys.executable, *tenancy, "worker"],
        log=tmp_path / "worker.log",
        environ={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}", **tenant},
    )
    try:
        asked = ("--tenant", "acme", "--key", "1", "--input", '{"order_id": 1}', "--wait", "--json")
        confirmed = run(tmp_path, *tenancy, "run", "orders.confirm", *asked, **tenant)
    finally:
        worker.kill()
    assert json.loads(confirmed)["result"] == "lamp"
