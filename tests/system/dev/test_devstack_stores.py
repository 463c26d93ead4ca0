"""The stores of two airlines on the local stack: prepared once, and found on another port."""

from __future__ import annotations

from asyncio import to_thread
from pathlib import Path

import pytest
from sqlalchemy import make_url

from dev.devstack.postgres import DatabaseUrls, EmbeddedPostgres
from dev.devstack.stack import Stack
from dev.devstack.store_connections import point_connections
from dev.own_stores import prepare_stores
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.postgres.connections import connect

HERE = "postgresql+psycopg://tenancy_tenant:s3cr%40t@127.0.0.1:5000"


@pytest.mark.parametrize(
    ("name", "url", "port"),
    [
        ("t_1.tenant", f"{HERE}/t_1", 6000),
        ("t_1.tenant", f"{HERE}/t_2", 5000),  # a person has put it there
        ("t_1.tenant", "postgresql+psycopg://a:b@db.example:5000/t_1", 5000),
    ],
)
def test_connections_to_the_stacks_databases_follow_its_port(
    tmp_path: Path, name: str, url: str, port: int
) -> None:
    (tmp_path / name).write_text(url)
    point_connections(tmp_path, 6000)
    assert make_url((tmp_path / name).read_text()) == make_url(url).set(port=port)


def test_what_is_no_connection_is_left_and_no_folder_is_needed(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("ask ada")
    point_connections(tmp_path, 6000)
    assert (tmp_path / "notes").read_text() == "ask ada"
    point_connections(tmp_path / "none", 6000)


@pytest.fixture
def stack(tmp_path: Path, database_urls: DatabaseUrls) -> Stack:
    """A stack on the test's database, which is not started."""
    given = {
        "DATABASE_URL": database_urls.owner,
        "TENANT_DATABASE_URL": database_urls.tenant,
        "PLATFORM_DATABASE_URL": database_urls.platform,
        "TEMPORAL_ADDRESS": "127.0.0.1:1",
    }
    with Stack(tmp_path / "stack", environ=given) as stack:
        return stack


async def test_stores_are_prepared_for_who_has_not_signed_up_and_half_made_ones_go_on(
    stack: Stack, database_urls: DatabaseUrls, tenants: Tenants
) -> None:
    def asked() -> list[tuple[str, ...]]:
        commands: list[tuple[str, ...]] = []
        prepare_stores(stack, lambda *arguments: commands.append(arguments))
        return commands

    assert await to_thread(asked) == [
        ("stores", "add", "--isolation", "schema"),
        ("stores", "add", "--isolation", "database"),
    ]
    with connect(database_urls.owner) as owner:
        owner.execute(
            "insert into tenancy.stores (name, isolation, secret, state, capacity) "
            "values ('t_1', 'database', 't_1', 'preparing', 1)"
        )
    await tenants.add("b6", "JetBlue", plan="enterprise")  # with an earlier release
    half_made = ("stores", "add", "t_1", "--isolation", "database")
    assert await to_thread(asked) == [half_made]
    with connect(database_urls.owner) as owner:
        owner.execute("update tenancy.stores set state = 'ready'")
    assert await to_thread(asked) == []


def test_the_owner_may_create_databases_where_it_is_to(tmp_path: Path) -> None:
    for allowed in (False, True):  # the data of an earlier release too
        server = EmbeddedPostgres(tmp_path / "postgres", durable=False, owner_creates=allowed)
        with server, connect(server.owner_url) as owner:
            query = "select rolcreatedb from pg_roles where rolname = current_user"
            assert owner.execute(query).fetchone() == (allowed,)
