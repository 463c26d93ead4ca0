"""Strangers' applications, written from the docs alone, on the built wheel and real servers."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import psycopg
import pytest

from dev.devstack.ports import LOOPBACK, free_port
from dev.devstack.postgres import EmbeddedPostgres, major_version
from dev.devstack.temporal_server import TemporalDevServer
from tests.fixtures.wheel import installed
from tests.strangers.stranger import HERE, execute, statements_of, stranger, url

pytestmark = pytest.mark.schedules

FEW: Final = 100  # lines for the library
ACME: Final = "0192f0c1-2b4d-7e8f-9abc-def012345678"
GLOBEX: Final = "0192f0c1-2b4d-7e8f-9abc-def0123456ab"
BAKERY: Final = "org_01EHZNVPK3SFK441A1RGBFSHRT"
OTHER_BAKERY: Final = "org_01EHZNVPK3SFK441A1RGBFSHRt"
FLORIST: Final = "org_01HXYZKQ2M8R4T6V8W0ABCDEFG"
PYTEST_DJANGO: Final = "4.14.0"  # not in uv.lock


@pytest.fixture
def postgres_15(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A server of the oldest PostgreSQL that the library runs on."""
    programs = Path(os.environ.get("TEST_POSTGRES_BIN", "/usr/lib/postgresql/15/bin"))
    if not (programs / "postgres").is_file() or major_version(programs) != 15:
        pytest.skip("PostgreSQL 15 is not installed")
    with EmbeddedPostgres(tmp_path / "postgres", durable=False, programs=programs) as server:
        yield server


@pytest.fixture
def postgres_18(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """An embedded server without roles of other tests."""
    with EmbeddedPostgres(tmp_path / "postgres", durable=False) as server:
        yield server


def without(locked: Path, package: str) -> Path:
    """The locked versions but for one package's."""
    kept = [line for line in locked.read_text().splitlines() if not line.startswith(f"{package}==")]
    path = locked.with_name(f"constraints-without-{package}.txt")
    path.write_text("\n".join(kept))
    return path


def test_fastapi_with_uuids_beside_another_application(
    wheel: Path,
    locked: Path,
    postgres_15: EmbeddedPostgres,
    temporal: TemporalDevServer,
    bare_namespace: str,
    tmp_path: Path,
) -> None:
    server = postgres_15
    python = installed(
        f"{wheel}[fastapi,testing]",
        without(locked, "sqlalchemy"),
        tmp_path,
        *("sqlalchemy==2.0.44", "uvicorn", "httpx"),
    )
    environ = {
        "DATABASE_URL": url(server, "shop_owner", "ownpw", "shop"),
        "TENANT_DATABASE_URL": url(server, "tenancy_tenant", "tpw", "shop"),
        "PLATFORM_DATABASE_URL": url(server, "tenancy_platform", "ppw", "shop"),
        "RELAY_DATABASE_URL": url(server, "tenancy_relay", "rpw", "shop"),
        "SUPERUSER_DATABASE_URL": server.urls("shop").superuser,
        "TEMPORAL_ADDRESS": temporal.address,
        "TEMPORAL_NAMESPACE": bare_namespace,
    }
    execute(server, "postgres", *statements_of(HERE / "fastapi_shop" / "server.sql"))
    execute(server, "shop", *statements_of(HERE / "fastapi_shop" / "legacy.sql"))
    with stranger("fastapi_shop", python, tmp_path, environ) as shop:
        shop.wrote_less_than(
            FEW,
            [
                "shop/tenancy.py",
                "migrations/env.py",
                "migrations/versions/0002_tenancy.py",
                "tests/conftest.py",
                "tests/test_leaks.py",
            ],
        )
        shop.run("alembic", "upgrade", "head")
        for name, tenant in (("Acme", ACME), ("Globex", GLOBEX)):
            execute(server, "shop", f"insert into organizations values ('{tenant}', '{name}')")
            shop.tenancy("tenants", "add", tenant, "--name", name)
        shop.tenancy("schedules", "apply")
        port = free_port()
        shop.start_tenancy("worker")
        shop.start("uvicorn", "shop.api:application", "--port", str(port))

        with httpx.Client(base_url=f"http://{LOOPBACK}:{port}", timeout=30) as http:
            shop.until("the API does not answer", lambda: answers(http, 401))

            def order(email: str, status: int = 200, **more: Any) -> Any:
                answer = http.post(
                    "/orders",
                    json={"email": email, "items": ["a", "b"], **more},
                    headers={"Authorization": "Bearer acme"},
                )
                assert answer.status_code == status, answer.text
                return answer.json()

            def orders(tenant: str = "acme") -> dict[str, str]:
                answer = http.get("/orders", headers={"Authorization": f"Bearer {tenant}"})
                return {id_: state for id_, _, state in answer.json()}

            order("rolled@back.example", 402, declined=True)
            first = order("ada@example.com")
            assert messages(server, "tenancy") == [(ACME, first)]  # before the relay has them
            shop.start_tenancy("relay")
            shop.until("the order is not confirmed", lambda: orders() == {first: "confirmed"})
            assert orders("globex") == {}

            bad = order("nobody")
            letter = shop.dead_letter("orders.confirm", ACME)
            assert orders()[bad] == "new"
            execute(server, "shop", f"update orders set email = 'b@x.org' where id = '{bad}'")
            shop.replays(letter)
            assert orders() == {first: "confirmed", bad: "confirmed"}

        shop.runs_for_each("orders.summary", [ACME, GLOBEX])
        shop.is_well()
        with psycopg.connect(url(server, "legacy_app", "legpw", "shop", "")) as legacy:
            assert legacy.execute("select count(*) from plans").fetchone() == (2,)
            assert legacy.execute("select count(*) from tenants").fetchone() == (3,)
        shop.run("python", "-m", "pytest", "-q")
        execute(server, "shop", "alter table order_lines disable row level security")
        shop.finds("order_lines")


def test_plain_psycopg_with_an_adopted_role_and_a_schema(
    wheel: Path,
    locked: Path,
    postgres_18: EmbeddedPostgres,
    temporal: TemporalDevServer,
    bare_namespace: str,
    tmp_path: Path,
) -> None:
    server = postgres_18
    python = installed(f"{wheel}[postgres,testing]", locked, tmp_path, "psycopg-pool")
    owner = url(server, "shop_owner", "owner", "shop", "")
    environ = {
        "SHOP_OWNER_URL": owner,
        "SHOP_APP_URL": url(server, "shop_app", "app", "shop", ""),
        "SHOP_PLATFORM_URL": url(server, "shop_platform", "platform", "shop", ""),
        "SHOP_RELAY_URL": url(server, "shop_relay", "relay", "shop", ""),
        "SHOP_SUPERUSER_URL": server.urls("shop").superuser.replace("+psycopg", ""),
        "TEMPORAL_ADDRESS": temporal.address,
        "TEMPORAL_NAMESPACE": bare_namespace,
    }
    execute(server, "postgres", *statements_of(HERE / "plain_shop" / "sql" / "000_server.sql"))
    with psycopg.connect(owner, autocommit=True) as connection:
        for statement in statements_of(HERE / "plain_shop" / "sql" / "001_shop.sql"):
            connection.execute(statement.encode())
    with stranger("plain_shop", python, tmp_path, environ) as shop:
        shop.wrote_less_than(
            FEW,
            [
                "shop/settings.py",
                "shop/setup.py",
                "shop/tenancy.py",
                "tests/test_leaks.py",
            ],
        )
        shop.tenancy("migrate")
        shop.run("python", "-m", "shop.setup")
        shop.tenancy("schedules", "apply")
        shop.start_tenancy("worker")

        def call(*words: str) -> Any:
            return json.loads(shop.run("python", "call.py", *words))

        def receipts() -> list[tuple[Any, ...]]:
            return execute(server, "shop", "select tenant_id, order_id from receipts order by 2")

        lost = call(BAKERY, "bread", "oops")
        first = call(BAKERY, "bread")
        assert call(BAKERY) == [[first, "bread"]]
        assert call(OTHER_BAKERY) == []
        assert messages(server, "jobs") == [(BAKERY, f"order-{first}")]
        shop.start_tenancy("relay")
        shop.until("the order is not confirmed", lambda: receipts() == [(BAKERY, first)])

        soap = call(OTHER_BAKERY, "soap")
        letter = shop.dead_letter("orders.confirm", OTHER_BAKERY)
        assert receipts() == [(BAKERY, first)]
        execute(server, "shop", f"insert into stock values ('{OTHER_BAKERY}', 'soap', 1)")
        shop.replays(letter)
        assert receipts() == [(BAKERY, first), (OTHER_BAKERY, soap)]
        assert lost not in {first, soap}

        shop.runs_for_each("orders.total", [BAKERY, OTHER_BAKERY, FLORIST])
        totals = execute(server, "shop", "select tenant_id from day_totals")
        assert sorted(totals) == sorted([(BAKERY,), (OTHER_BAKERY,), (FLORIST,)])
        shop.is_well()
        shop.run("python", "-m", "pytest", "-q")
        execute(server, "shop", "alter table receipts disable row level security")
        shop.finds("receipts")


def test_django_with_bigints_and_an_owner_that_is_no_superuser(
    wheel: Path,
    locked: Path,
    postgres_18: EmbeddedPostgres,
    temporal: TemporalDevServer,
    bare_namespace: str,
    tmp_path: Path,
) -> None:
    server = postgres_18
    python = installed(
        f"{wheel}[django,testing]", locked, tmp_path, f"pytest-django=={PYTEST_DJANGO}", "uvicorn"
    )
    environ = {
        "OWNER_DATABASE_URL": url(server, "shop_owner", "oo", "shop"),
        "TENANT_DATABASE_URL": url(server, "tenancy_tenant", "tt", "shop"),
        "PLATFORM_DATABASE_URL": url(server, "tenancy_platform", "pp", "shop"),
        "RELAY_DATABASE_URL": url(server, "tenancy_relay", "rr", "shop"),
        "SUPERUSER_DATABASE_URL": server.urls("shop").superuser,
        "PGHOST": LOOPBACK,
        "PGPORT": str(server.port),
        "PGDATABASE": "shop",
        "PGUSER": "tenancy_tenant",
        "PGPASSWORD": "tt",
        "DJANGO_SETTINGS_MODULE": "shop.settings",
        "TEMPORAL_ADDRESS": temporal.address,
        "TEMPORAL_NAMESPACE": bare_namespace,
    }
    execute(
        server,
        "postgres",
        "create role shop_owner login createrole password 'oo'",
        "create database shop owner shop_owner",
    )
    operators = ("python", "manage.py", "tenancy")
    with stranger("django_shop", python, tmp_path, environ, operators) as shop:
        shop.wrote_less_than(
            FEW,
            [
                "shop/__init__.py",
                "shop/auth.py",
                "shop/tenancy.py",
                "shop/migrations/0002_tenancy.py",
                "tests/test_leaks.py",
            ],
        )
        shop.tenancy("migrate")
        shop.run("python", "manage.py", "migrate", PGUSER="shop_owner", PGPASSWORD="oo")
        for tenant in ("7", "42"):
            shop.tenancy("tenants", "add", tenant)
        shop.tenancy("schedules", "apply")
        port = free_port()
        shop.start_tenancy("worker")
        site = "django.core.asgi:get_asgi_application"
        shop.start("uvicorn", "--factory", site, "--port", str(port), "--lifespan", "off")

        with httpx.Client(base_url=f"http://{LOOPBACK}:{port}", timeout=30) as http:
            shop.until("the site does not answer", lambda: answers(http, 500))

            def order(item: str, cents: int, status: int = 200) -> Any:
                answer = http.post(
                    "/orders",
                    data={"item": item, "cents": str(cents)},
                    headers={"Authorization": "Bearer token of 7"},
                )
                assert answer.status_code == status, answer.text
                return answer.json()["order"] if status == 200 else None

            def payments() -> list[tuple[Any, ...]]:
                return execute(
                    server, "shop", "select tenant_id, order_id, cents from shop_payment order by 2"
                )

            order("out of stock", 100, 500)
            first = order("tea", 300)
            assert messages(server, "tenancy") == [("7", str(first))]
            shop.start_tenancy("relay")
            shop.until("the order is not confirmed", lambda: payments() == [(7, first, 300)])

            free = order("samples", 0)
            letter = shop.dead_letter("orders.confirm", "7")
            shop.run("python", "manage.py", "price_order", "--tenant", "7", str(free), "500")
            shop.replays(letter)
            assert payments() == [(7, first, 300), (7, free, 500)]
        assert shop.run("python", "manage.py", "count_orders", "--tenant", "42").strip() == "0"

        shop.runs_for_each("payments.total", ["7", "42"])
        shop.is_well()
        shop.run("python", "-m", "pytest", "-q")
        execute(server, "shop", "alter table shop_payment disable row level security")
        shop.finds("shop_payment")


def answers(http: httpx.Client, status: int) -> bool:
    """Whether the server takes requests, and refuses one without a tenant."""
    try:
        return http.get("/orders").status_code == status
    except httpx.TransportError:
        return False


def messages(server: EmbeddedPostgres, schema: str) -> list[tuple[str, str]]:
    """The requests that the outbox has: whose, and their keys."""
    rows = execute(
        server, "shop", f"select tenant_id, key from {schema}.outbox_messages order by id"
    )
    return [(tenant, key) for tenant, key in rows]
