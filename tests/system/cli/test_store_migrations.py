"""`migrate --plan`, `--wave` and `--status`, and what `doctor` says of stores."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from temporalio.client import Client

from dev.devstack.postgres import DatabaseUrls
from temporal_tenancy.cli import Application, Login, Program, command_line, run, use_program
from temporal_tenancy.cli._database_checks import database_checks
from temporal_tenancy.cli._store_checks import store_checks
from temporal_tenancy.core.migration_environment import MigrationEnvironment
from temporal_tenancy.core.stores import Isolation
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.stores import drift
from temporal_tenancy.stores.errors import StorePreparationFailed
from temporal_tenancy.stores.preparation import Preparation
from tests.library.stores.conftest import (
    Shop,
    connection_secrets,
    other_database,
    owner,
    preparation,
    shop,
)

__all__ = ["connection_secrets", "other_database", "owner", "preparation", "shop"]

FAILS = (
    "op.execute('alter table orders add remark text')\n"
    "    op.execute('create unique index one on orders (tenant_id)')"
)
PROTECTED = "op.execute('alter table orders add remark text')"

Answer = Callable[..., Any]


@pytest.fixture
def program(database_urls: DatabaseUrls, preparation: Preparation) -> Callable[..., Program]:
    """The command line of an application with these migrations."""

    async def connect(database: Database | None) -> Client:
        return await Client.connect("127.0.0.1:1")

    def made(environment: MigrationEnvironment | None, owner_url: str | None = None) -> Program:
        application = Application(
            connect=connect,
            database=lambda: Database(
                tenant_url=database_urls.tenant, platform_url=database_urls.platform
            ),
            tenant=Login("TENANT_URL", database_urls.tenant),
            platform=Login("PLATFORM_URL", database_urls.platform),
            relay=Login("RELAY_URL", database_urls.relay),
            owner=Login("OWNER_URL", owner_url or database_urls.owner),
            environments=[] if environment is None else [environment],
            connections=preparation.secrets,
        )
        return Program(load=lambda: application)

    return made


@pytest.fixture
def answer(program: Callable[..., Program], capsys: pytest.CaptureFixture[str]) -> Answer:
    """Runs a command with these migrations, and returns what it prints as JSON."""

    def answered(environment: MigrationEnvironment, *words: str, code: int = 0, **of: str) -> Any:
        there = program(environment, **of)
        assert run(command_line(there), there, [*words, "--json"]) == code
        return json.loads(capsys.readouterr().out)

    return answered


def checks(program: Program) -> dict[str, tuple[str, str]]:
    """Returns the verdict and message of each of the doctor's checks of stores."""
    with use_program(program):
        return {each.name: (each.verdict, each.message) for each in asyncio.run(store_checks())}


def prepare(preparation: Preparation, environment: MigrationEnvironment, *names: str) -> None:
    for name in names:
        replace(preparation, application=[environment]).prepare(Isolation.SCHEMA, name=name)


def test_canaries_hold_back_the_shared_store_and_the_waves_until_they_are_well(
    preparation: Preparation,
    shop: Shop,
    owner: psycopg.Connection,
    answer: Answer,
    program: Callable[..., Program],
) -> None:
    answer(shop(None), "migrate")  # the shared store has orders too
    prepare(preparation, shop(None), "t_one", "t_two")
    owner.execute("insert into t_two.orders values ('acme'), ('acme')")
    newest = shop(FAILS)
    plan = answer(newest, "migrate", "--plan", "--canaries", "t_two")
    assert [(each["wave"], [s["store"] for s in each["stores"]]) for each in plan["waves"]] == [
        ("canaries", ["t_two"]),
        ("1", ["t_one"]),
    ]
    assert plan["behind"] == ["the orders is at 0001, and the code needs 0002"]
    failed = answer(newest, "migrate", "--canaries", "t_two", code=1)
    assert failed["stores"]["halted"] == "canaries"
    assert failed["stores"]["waiting"] == ["t_one"]
    again = answer(newest, "migrate", "--wave", "next", code=1)
    assert (again["stores"]["halted"], again["stores"]["migrated"]) == ("canaries", [])
    assert owner.execute("select version_num from public.shop_version").fetchone() == ("0001",)
    status = answer(newest, "migrate", "--status")
    assert [(each["store"], each["state"]) for each in status["stores"]] == [
        ("t_one", "behind"),
        ("t_two", "failed"),
    ]
    assert status["stores"][1]["reason"].startswith("UniqueViolation: ")
    verdict, message = checks(program(newest))["stores"]
    assert verdict == "failed"
    assert message.startswith("their tenants' jobs wait for migrations:\n")
    assert "t_two: the orders is at 0001, and the code needs 0002 (UniqueViolation" in message
    assert message.endswith(
        '"tenancy migrate --status" shows all, "tenancy migrate" migrates them.'
    )
    owner.execute("truncate t_two.orders")
    first = answer(newest, "migrate", "--wave", "canaries")
    assert first["stores"]["migrated"] == ["t_two"]
    rest = answer(newest, "migrate")
    assert rest["stores"]["migrated"] == ["t_one"]
    assert owner.execute("select version_num from public.shop_version").fetchone() == ("0002",)
    assert checks(program(newest)) == {
        "stores": ("ok", "2 stores have all migrations."),
        "drift": ("ok", "every store has the tables that the migrations make."),
    }


def test_doctor_names_stores_whose_preparation_did_not_come_to_its_end(
    preparation: Preparation, shop: Shop, answer: Answer, program: Callable[..., Program]
) -> None:
    answer(shop(None), "migrate")
    prepare(preparation, shop(None), "t_one")
    assert set(checks(program(shop(None)))) == {"stores", "drift"}
    with pytest.raises(StorePreparationFailed):
        prepare(preparation, shop("op.execute('a mistake')"), "t_left")
    verdict, message = checks(program(shop(None)))["stores being prepared"]
    first, store, ending = message.splitlines()
    assert verdict == "warning"
    assert first == "1 store takes no tenant yet: the preparation goes on, or has failed."
    assert store.startswith("t_left, schema, since 2")
    assert ending == (
        '"tenancy stores add STORE" goes on with one, "tenancy stores remove STORE" drops it.'
    )


def test_doctor_names_tables_that_somebody_has_changed(
    preparation: Preparation,
    shop: Shop,
    owner: psycopg.Connection,
    answer: Answer,
    program: Callable[..., Program],
) -> None:
    environment = shop(None)
    assert checks(program(None)) == {
        "stores": ("ok", "all tenants share one store."),
        "drift": ("skipped", "the application has no migrations of its own."),
    }
    assert checks(program(environment))["drift"] == (
        "skipped",
        'what the migrations make is not known. "tenancy migrate" finds it out.',
    )
    answer(environment, "migrate")
    prepare(preparation, environment, "t_one")
    owner.execute("alter table t_one.orders add by_hand int")
    owner.execute("alter table public.orders alter tenant_id set not null")
    verdict, message = checks(program(environment))["drift"]
    assert verdict == "failed"
    assert message.startswith("tables differ from what the migrations make:\n")
    assert "t_one has also column orders.by_hand integer." in message
    assert "the shared store lacks column orders.tenant_id text; has also" in message
    assert drift.SCRATCH not in message


TRIGGER = """
    op.execute("alter table orders add primary key (tenant_id)")
    protect("orders")
    op.execute(
        "create function keep_both() returns trigger language plpgsql "
        "as 'begin return new; end'"
    )
    op.execute(
        "create trigger keep_both before update on orders for each row execute function keep_both()"
    )
"""


def test_doctor_knows_the_triggers_that_migrations_make_from_those_made_by_hand(
    preparation: Preparation,
    shop: Shop,
    owner: psycopg.Connection,
    answer: Answer,
    program: Callable[..., Program],
) -> None:
    environment = shop(f"from temporal_tenancy import protect\n{TRIGGER}")
    answer(environment, "migrate")
    prepare(preparation, environment, "t_one")
    assert row_level_security(program(environment))[0] == "ok"
    assert checks(program(environment))["drift"][0] == "ok"
    for name in ("t_one.orders", "public.orders"):
        owner.execute(
            f"create trigger by_hand before update on {name} for each row "
            "execute function keep_both()".encode()
        )
    owner.execute("alter table t_one.orders disable trigger keep_both")
    verdict, message = row_level_security(program(environment))
    assert verdict == "failed"
    assert "the trigger by_hand on t_one.orders is not from the migrations" in message
    assert "keep_both on" not in message
    verdict, message = checks(program(environment))["drift"]
    assert verdict == "failed"
    assert "t_one lacks trigger orders.keep_both CREATE" in message
    assert "the shared store has also trigger orders.by_hand CREATE" in message


def row_level_security(program: Program) -> tuple[str, str]:
    with use_program(program):
        [found] = [each for each in database_checks() if each.name == "row-level security"]
    return found.verdict, found.message


def test_doctor_compares_no_store_with_the_tables_of_an_earlier_release(
    preparation: Preparation,
    shop: Shop,
    owner: psycopg.Connection,
    answer: Answer,
    program: Callable[..., Program],
) -> None:
    environment = shop(None)
    answer(environment, "migrate")
    prepare(preparation, environment, "t_one", "t_two")
    for schema in ("t_one", "public"):
        owner.execute(f"alter table {schema}.orders add of_the_next int".encode())
        owner.execute(f"update {schema}.shop_version set version_num = '0002'".encode())
    verdict, message = checks(program(environment))["drift"]
    assert verdict == "warning"
    newer = "was not looked at: it has migrations of a newer release than this program."
    assert message.splitlines()[1:] == [f"t_one {newer}", f"the shared store {newer}"]


def test_a_given_database_is_migrated_with_its_own_url_and_the_control_plane_is_told(
    preparation: Preparation,
    other_database: DatabaseUrls,
    shop: Shop,
    answer: Answer,
    program: Callable[..., Program],
) -> None:
    first = replace(preparation, application=[shop(None)])
    first.prepare(Isolation.DATABASE, name="a_store", at=other_database.owner)
    newest = shop(PROTECTED)
    assert answer(newest, "migrate")["stores"]["given"] == ["a_store"]
    told = checks(program(newest))["stores"][1]
    assert "a_store: the orders is at 0001" in told
    assert "Migrate it with its owner's URL, which is kept nowhere." in told
    assert 'migrate" migrates them' not in told
    answer(newest, "migrate", owner_url=other_database.owner)
    assert answer(newest, "migrate", "--status")["stores"] == []
    assert checks(program(newest))["stores"][0] == "ok"
    assert checks(program(newest))["drift"][0] == "ok"
    assert preparation.secrets is not None
    preparation.secrets.put("a_store.platform", "postgresql://a:s3cr3t@127.0.0.1:1/x")
    verdict, message = checks(program(newest))["drift"]
    assert verdict == "warning"
    assert message.endswith("DatabaseUnreachable: it does not answer, or refuses the login.")
    assert "127.0.0.1" not in message
    preparation.secrets.remove("a_store.platform")
    verdict, message = checks(program(newest))["drift"]
    assert verdict == "warning"
    assert message.startswith("not every store was compared:\n")
    assert "a_store was not looked at: ConnectionSecretMissing: " in message


def test_doctor_says_if_the_stores_cannot_be_read(
    shop: Shop, program: Callable[..., Program], database_urls: DatabaseUrls
) -> None:
    there = program(shop(None)).application
    away = database_urls.platform.rpartition("/")[0] + "/gone"
    unread = replace(there, platform=Login("PLATFORM_URL", away))
    verdict, message = checks(Program(load=lambda: unread))["stores"]
    assert verdict == "skipped"
    assert message.startswith("the stores cannot be read (DatabaseUnreachable: ")
    unset = replace(there, platform=Login("PLATFORM_URL", None))
    assert checks(Program(load=lambda: unset))["drift"] == (
        "skipped",
        "PLATFORM_URL is not set.",
    )


@pytest.mark.parametrize(
    "words",
    [
        ("--plan", "--status"),
        ("--plan", "--wave", "1"),
        ("--wave-sizes", "0"),
        ("--wave-sizes", "ten"),
        ("--connections", "2"),
        ("--wave", "1", "--move"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    shop: Shop, answer: Answer, words: tuple[str, ...]
) -> None:
    assert answer(shop(None), "migrate", *words, code=2)["error"]["type"] == "UsageError"
