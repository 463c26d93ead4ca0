"""Waves of migrations: canaries first, a bound on failures, and where a call that died goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from dev.devstack.postgres import DatabaseUrls
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.core.errors import ConfigurationError, TenancyError, TenantUnknown
from temporal_tenancy.core.migration_environment import LIBRARY, MigrationEnvironment
from temporal_tenancy.core.stores import Isolation
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.postgres.migrations import migrate
from temporal_tenancy.postgres.role_checks import STORE_MARK
from temporal_tenancy.stores import upgrading
from temporal_tenancy.stores.errors import StoreRefused, WaveRefused, WaveUnknown
from temporal_tenancy.stores.given import record_versions, store_of, versions_of_given
from temporal_tenancy.stores.preparation import Preparation
from temporal_tenancy.stores.sign_up import SignUp
from temporal_tenancy.stores.upgrading import UpgradedStores, upgrade_stores
from temporal_tenancy.stores.waves import StoreMigration, Waves, store_migrations
from tests.library.stores.conftest import Shop
from tests.library.stores.test_upgrading import ADD, OTHER

FOUR = ("t_a", "t_b", "t_c", "t_d")
ONE_EACH = Waves(sizes=(1,), failures=0)
# Waits for a lock that the test holds, in one store alone.
STUCK = (
    "op.execute('alter table orders add remark text')\n"
    "    op.execute(\"select pg_advisory_xact_lock(7) where current_schema() = 't_b'\")"
)
WAITS = "select from pg_locks where locktype = 'advisory' and not granted"
PROGRAM = """
import sys
from temporal_tenancy.core.migration_environment import MigrationEnvironment
from temporal_tenancy.stores import upgrade_stores
sys.path.insert(0, sys.argv[2])
shop = MigrationEnvironment("orders", sys.argv[3], "shop_version")
upgrade_stores(sys.argv[1], application=[shop])
"""
FAILS_IN_A = "op.execute(\"select 1 / (current_schema() <> 't_a')::int\")"

Upgrade = Callable[..., UpgradedStores]


@pytest.fixture
def upgrade(database_urls: DatabaseUrls) -> Upgrade:
    def upgraded(shop: MigrationEnvironment, **options: Any) -> UpgradedStores:
        return upgrade_stores(database_urls.owner, application=[shop], **options)

    return upgraded


@pytest.fixture
def four(preparation: Preparation, shop: Shop) -> tuple[str, ...]:
    """Four schemas with the shop's first migration."""
    with_shop = replace(preparation, application=[shop(None)])
    for name in FOUR:
        with_shop.prepare(Isolation.SCHEMA, name=name)
    return FOUR


def seen(owner: psycopg.Connection, shop: MigrationEnvironment, **options: Any) -> Any:
    """Returns each store's wave and state, by name."""
    found = store_migrations(owner, [shop], schema="tenancy", **options)
    return {store.name: (store.wave, store.state) for store in found}


def rows(owner: psycopg.Connection) -> list[Any]:
    return owner.execute("select stores, xmin from tenancy.stores order by name").fetchall()


def test_canaries_come_first_and_then_waves_of_the_sizes_given(
    four: tuple[str, ...], shop: Shop, upgrade: Upgrade, owner: psycopg.Connection
) -> None:
    waves = Waves(canaries=("t_c",), sizes=(1, 2))
    assert upgrade(shop(ADD), waves=waves, wave="canaries") == UpgradedStores(
        migrated=("t_c",), waiting=("t_a", "t_b", "t_d")
    )
    assert seen(owner, shop(ADD)) == {
        "t_a": (1, "behind"),
        "t_b": (2, "behind"),
        "t_c": (0, "up to date"),
        "t_d": (2, "behind"),
    }
    assert upgrade(shop(ADD), waves=waves, wave="next").migrated == ("t_a",)
    assert upgrade(shop(ADD), waves=waves, wave="2").migrated == ("t_b", "t_d")
    assert upgrade(shop(ADD), wave="next") == UpgradedStores(up_to_date=FOUR)


def test_no_wave_begins_while_a_canary_is_behind(
    four: tuple[str, ...], shop: Shop, upgrade: Upgrade, owner: psycopg.Connection
) -> None:
    failing, waves = shop(FAILS_IN_A), Waves(canaries=("t_a",))
    done = upgrade(failing, waves=waves)
    assert (done.migrated, done.halted, done.waiting) == ((), "canaries", ("t_b", "t_c", "t_d"))
    with pytest.raises(WaveRefused, match="a canary lacks migrations"):
        upgrade(failing, wave="1")
    with pytest.raises(WaveRefused, match="t_b is no canary"):
        upgrade(failing, waves=Waves(canaries=("t_b",)))
    assert seen(owner, failing)["t_a"] == (0, "failed")
    again = upgrade(failing, wave="next")
    assert (again.migrated, [each.name for each in again.left]) == ((), ["t_a"])


def test_a_wave_with_more_failures_than_its_bound_is_the_last(
    four: tuple[str, ...], shop: Shop, upgrade: Upgrade
) -> None:
    failing = shop(FAILS_IN_A)
    done = upgrade(failing, waves=ONE_EACH)
    assert (done.migrated, done.halted, done.waiting) == ((), "1", ("t_b", "t_c", "t_d"))
    allowed = upgrade(failing, waves=replace(ONE_EACH, failures=1))
    assert (allowed.migrated, allowed.halted) == (("t_b", "t_c", "t_d"), None)
    assert [store.name for store in allowed.left] == ["t_a"]


def test_a_plan_changes_nothing(
    four: tuple[str, ...], shop: Shop, owner: psycopg.Connection
) -> None:
    before = rows(owner)
    assert seen(owner, shop(ADD), waves=Waves(canaries=("t_d",)))["t_d"] == (0, "behind")
    assert rows(owner) == before


async def test_canaries_and_waves_that_there_are_not_are_refused_before_anything_is_done(
    four: tuple[str, ...],
    shop: Shop,
    upgrade: Upgrade,
    owner: psycopg.Connection,
    database: Database,
) -> None:
    await Tenants(database).add("acme", "Acme", plan="free")
    await SignUp(database).add("globex", "Globex", plan="free", store="t_b")
    before = rows(owner)
    refused: list[tuple[type[TenancyError], dict[str, Any]]] = [
        (TenantUnknown, {"waves": Waves(canaries=("nobody",))}),
        (StoreRefused, {"waves": Waves(canaries=("acme",))}),
        (WaveUnknown, {"wave": "7"}),
    ]
    for error, options in refused:
        with pytest.raises(error):
            upgrade(shop(ADD), **options)
    assert rows(owner) == before
    done = upgrade(shop(ADD), waves=Waves(canaries=("globex",)), wave="canaries")
    assert done.migrated == ("t_b",)


@pytest.mark.parametrize("wrong", [{"connections": 2}, {"sizes": ()}, {"sizes": (0,)}])
def test_waves_that_could_do_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Waves(**wrong)


def test_a_call_that_is_killed_is_repeated_and_goes_on_where_it_was(
    four: tuple[str, ...], shop: Shop, upgrade: Upgrade, owner: psycopg.Connection
) -> None:
    environment = shop(STUCK)
    folder = next(
        path
        for path in sys.path
        if os.path.isdir(os.path.join(path, environment.script_location.partition(":")[0]))
    )
    owner.execute("select pg_advisory_lock(7)")
    arguments = [owner_url(owner), folder, environment.script_location]
    with subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments]) as process:
        while process.poll() is None and owner.execute(WAITS).fetchone() is None:
            """It has not come to the second store."""
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    owner.execute("select pg_advisory_unlock(7)")
    states = seen(owner, environment, ask_schemas=False)
    assert [state for _, state in states.values()] == ["up to date", *["behind"] * 3]
    done = upgrade(environment)
    assert (done.migrated, done.up_to_date) == (("t_b", "t_c", "t_d"), ("t_a",))


def owner_url(owner: psycopg.Connection) -> str:
    info = owner.info
    return f"postgresql://{info.user}:{info.password}@{info.host}:{info.port}/{info.dbname}"


def test_stores_are_migrated_in_several_processes(
    four: tuple[str, ...],
    shop: Shop,
    upgrade: Upgrade,
    owner: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("temporal_tenancy.stores._side_processes.STORES_EACH", 2)
    monkeypatch.delattr(upgrading._Run, "schema")  # so that this process can migrate none
    assert upgrade(shop(ADD), waves=Waves(connections=5)).migrated == FOUR


def test_a_database_that_the_control_plane_knows_to_be_up_to_date_is_not_asked(
    preparation: Preparation,
    other_database: DatabaseUrls,
    shop: Shop,
    upgrade: Upgrade,
    owner: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = replace(preparation, application=[shop(None)])
    first.prepare(Isolation.DATABASE, name=OTHER, at=other_database.owner)
    with connect(other_database.owner) as there:
        there.execute(f"comment on database {OTHER} is '{STORE_MARK}nobody yet.'".encode())
    assert upgrade(shop(ADD)).migrated == (OTHER,)
    assert upgrade(shop(ADD), verify=True).up_to_date == (OTHER,)
    monkeypatch.delattr(upgrading._Run, "database")
    assert upgrade(shop(ADD)) == UpgradedStores(up_to_date=(OTHER,))


async def test_a_database_that_was_given_is_behind_until_somebody_migrates_it(
    preparation: Preparation,
    other_database: DatabaseUrls,
    shop: Shop,
    owner: psycopg.Connection,
    database_urls: DatabaseUrls,
) -> None:
    first = replace(preparation, application=[shop(None)])
    first.prepare(Isolation.DATABASE, name=OTHER, at=other_database.owner)
    newest = shop(ADD)

    async def asked() -> StoreMigration:
        found = await versions_of_given([OTHER], [newest], preparation.secrets)
        assert not isinstance(found[OTHER], str), found
        assert record_versions(database_urls.platform, found) == 1  # type: ignore[arg-type]
        [store] = store_migrations(owner, [newest], schema="tenancy")
        return store

    behind = await asked()
    assert (behind.state, behind.given, behind.wave) == ("behind", True, None)
    migrate(other_database.owner, application=[newest])
    with connect(other_database.owner) as there:
        assert store_of(there) == OTHER
    assert (await asked()).state == "up to date"


def test_preparing_says_which_migrations_a_store_has(
    four: tuple[str, ...], shop: Shop, owner: psycopg.Connection
) -> None:
    found = owner.execute("select versions from tenancy.stores").fetchall()
    assert found == [({"orders": "0001"},)] * 4
    assert all(environment.name != "orders" for environment in LIBRARY)
