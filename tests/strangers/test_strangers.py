"""Strangers' applications, written from the docs alone, on the built wheel and real servers."""

from __future__ import annotations

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

FEW: Final = 100  # lines for the library
ACME: Final = "0192f0c1-2b4d-7e8f-9abc-def012345678"
GLOBEX: Final = "0192f0c1-2b4d-7e8f-9abc-def0123456ab"


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
        f"{wheel}[postgres,testing]",
        without(locked, "sqlalchemy"),
        tmp_path,
        *("sqlalchemy==2.0.44", "fastapi", "uvicorn", "httpx"),
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
                "shop/worker.py",
                "shop/relay.py",
                "migrations/versions/0002_tenancy.py",
                "tests/test_leaks.py",
            ],
        )
        shop.run("alembic", "upgrade", "head")
        for name, tenant in (("Acme", ACME), ("Globex", GLOBEX)):
            execute(server, "shop", f"insert into organizations values ('{tenant}', '{name}')")
            shop.tenancy("tenants", "add", tenant, "--name", name)
        shop.tenancy("schedules", "apply")
        port = free_port()
        shop.start("python", "-m", "shop.worker")
        shop.start("python", "-m", "shop.relay")
        shop.start("uvicorn", "shop.api:application", "--port", str(port))

        with httpx.Client(base_url=f"http://{LOOPBACK}:{port}", timeout=30) as http:
            shop.until("the API does not answer", lambda: answers(http))

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
            shop.until("the order is not confirmed", lambda: orders() == {first: "confirmed"})
            assert orders("globex") == {}
            assert messages(server, "tenancy") == [(ACME, first)]

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


def answers(http: httpx.Client) -> bool:
    """Whether the server takes requests."""
    try:
        return http.get("/orders").status_code == 401
    except httpx.TransportError:
        return False


def messages(server: EmbeddedPostgres, schema: str) -> list[tuple[str, str]]:
    """The requests that the outbox has: whose, and their keys."""
    rows = execute(
        server, "shop", f"select tenant_id, key from {schema}.outbox_messages order by id"
    )
    return [(tenant, key) for tenant, key in rows]
