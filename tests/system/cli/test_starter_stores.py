"""starter.py stores, and tenants in them: what each prints and exits with."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg import sql

from dev.devstack.postgres import DatabaseUrls, EmbeddedPostgres
from saas.database.environment import TENANT_DATA
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.installation import Roles
from temporal_tenancy.postgres.store_roles import store_roles
from tests.fixtures.apart import Apart
from tests.fixtures.starter import Starter


@pytest.fixture
def owners(database_urls: DatabaseUrls) -> Iterator[dict[str, str]]:
    """The variable that preparing needs; the stores' roles go with the test."""
    yield {"DATABASE_URL": database_urls.owner}
    with connect(database_urls.owner) as owner:
        for role in store_roles(owner, Roles()):
            owner.execute(f'drop schema if exists "{role}" cascade'.encode())
            owner.execute(f'drop role "{role}"'.encode())


@pytest.fixture
def other_database(postgres: EmbeddedPostgres) -> Iterator[DatabaseUrls]:
    yield postgres.create_database("a_store")
    postgres.drop_database("a_store")


async def test_stores_are_prepared_given_out_drained_and_removed(
    starter: Starter, owners: dict[str, str]
) -> None:
    assert (await starter("tenants", "add", "plain")).code == 0
    one = await starter("tenants", "list")
    assert "isolation" not in one.out, one.out  # all share one store
    added = await starter("stores", "add", "--count", "2", "--region", "eu", "--json", **owners)
    assert added.code == 0, added.err
    names = sorted(each["name"] for each in added.document)
    tenant = await starter("tenants", "add", "acme", "--isolation", "schema", "--json")
    assert tenant.code == 0, tenant.err
    store = tenant.document["store"]
    assert store in names
    assert tenant.document["isolation"] == "schema"
    [other] = set(names) - {store}
    everybody = await starter("tenants", "list")
    assert re.search(rf"^acme .* schema +{store}$", everybody.out, re.M), everybody.out
    shown = await starter("tenants", "show", "acme")
    assert store in shown.out
    listed = await starter("stores", "list", "--json")
    assert [(each["name"], each["state"], each["tenants"]) for each in listed.document] == [
        (name, "active" if name == store else "ready", ["acme"] if name == store else [])
        for name in names
    ]
    in_use = await starter("stores", "remove", store, **owners)
    assert (in_use.code, in_use.err.partition(":")[0]) == (2, "StoreInUse")
    drained = await starter("stores", "drain", other)
    assert f'"starter.py stores remove {other}" drops it.' in drained.out
    late = await starter("tenants", "add", "late", "--store", other)
    assert (late.code, late.err.partition(":")[0]) == (2, "StoreDraining")
    none = await starter("tenants", "add", "late", "--isolation", "schema")
    assert f"{other} is empty but drained" in none.err
    assert f'"starter.py stores undrain {other}" does so.' in none.err
    assert none.code == 2
    assert (await starter("stores", "drain", store)).code == 0
    in_use = await starter("stores", "undrain", store, "--json")
    assert (in_use.document["state"], in_use.document["tenants"]) == ("active", ["acme"])
    again = await starter("stores", "undrain", other)
    assert again.out == f"{other} takes a tenant.\n"
    never = await starter("stores", "undrain", store)
    assert never.out == f"{store} is in use, by acme.\n"
    assert (await starter("stores", "remove", other, **owners)).code == 0
    gone = await starter("stores", "show", other)
    assert gone.code == 2
    assert '"starter.py stores list" shows which there are.' in gone.err


async def test_a_database_of_its_own_needs_a_place_for_its_connection(
    starter: Starter, owners: dict[str, str], other_database: DatabaseUrls, tmp_path: Path
) -> None:
    prepare = ("stores", "add", "t_own", "--isolation", "database")
    refused = await starter(*prepare, **owners)
    assert (refused.code, refused.err.partition(":")[0]) == (2, "StoreRefused")
    assert "Set CONNECTIONS_URL to file:///folder" in refused.err
    variables = owners | {"CONNECTIONS_URL": f"file://{tmp_path / 'connections'}"}
    failed = await starter(*prepare, **variables)  # the owner may not create databases
    assert failed.code == 1
    assert '"starter.py stores add t_own' in failed.err
    given = ("--database-url-from", "STORE_URL")
    missing = await starter(*prepare, *given, **variables)
    assert missing.code == 2
    there = {"STORE_URL": other_database.owner}
    elsewhere = await starter(
        "stores", "add", "t_own", "--region", "us", *given, **variables, **there
    )
    assert elsewhere.code == 2
    # As the first failure said: it goes on as the database that it was.
    go_on = ("stores", "add", "t_own", "--json")
    made = await starter(*go_on, *given, **variables, **there)
    assert made.code == 0, made.err
    assert made.document == [{"name": "t_own", "isolation": "database", "region": None}]
    tenant = await starter("tenants", "add", "acme", "--isolation", "database", **variables)
    assert tenant.code == 0, tenant.err
    assert (await starter("stores", "show", "t_own")).out.count("acme") == 1


async def test_a_given_database_that_is_migrated_by_itself_keeps_its_passwords(
    starter: Starter, owners: dict[str, str], other_database: DatabaseUrls, tmp_path: Path
) -> None:
    folder = {"CONNECTIONS_URL": f"file://{tmp_path / 'connections'}"}
    given = ("--isolation", "database", "--database-url-from", "STORE_URL")
    there = {"STORE_URL": other_database.owner}
    made = await starter("stores", "add", "t_own", *given, **owners, **folder, **there)
    assert made.code == 0, made.err
    # As if the control plane were on another server, where the roles have other passwords.
    others = {
        "TENANT_DATABASE_URL": re.sub(r":[^:@/]+@", ":0ther@", other_database.tenant),
        "RELAY_DATABASE_URL": re.sub(r":[^:@/]+@", ":0ther@", other_database.relay),
    }
    said = await starter("migrate", DATABASE_URL=other_database.owner, **others)
    assert said.code == 0, said.err
    assert "The control plane knows that the store t_own is migrated." in said.out
    for url in (other_database.tenant, other_database.relay):
        with connect(url):
            pass


async def test_a_tenants_messages_in_its_own_database_are_shown_moved_and_cancelled(
    starter: Starter, apart: Apart, tmp_path: Path
) -> None:
    folder = {
        "CONNECTIONS_URL": f"file://{tmp_path / 'connections'}",
        "RELAY_DATABASE_URL": apart.urls.relay,
    }
    await apart.add("acme", plan="enterprise")
    input = ("--tenant", "acme", "--input", '{"period": "2013-04"}')
    asked = await starter("enqueue", "billing.cycle", *input, "--json", **folder)
    assert asked.code == 0, asked.err
    message = asked.document["message_id"]
    [listed] = (await starter("outbox", "list", "--json", **folder)).document
    assert (listed["tenant_id"], listed["pending"], listed["held_back"]) == ("acme", 1, None)
    assert [each["id"] for each in listed["messages"]] == [message]
    waits = await starter("explain", "acme/billing.cycle/2013-04", "--json", **folder)
    [why] = waits.document["waiting_for"]
    assert why.startswith("It waits for a relay, which looks at acme's own database every 2 s, or")
    time = ("--at", "2090-01-01T00:00:00Z")
    moved = await starter("outbox", "reschedule", message, *time, "--json", **folder)
    assert moved.document["tenant_id"] == "acme", moved.err
    explained = await starter("explain", "acme/billing.cycle/2013-04", "--json", **folder)
    assert "It starts at 2090-01-01" in explained.document["waiting_for"][0]
    well = await starter("doctor", "--json", **folder)
    [check] = [each for each in well.document["checks"] if each["name"] == "tenants' databases"]
    assert (check["verdict"], "1 database answers" in check["message"]) == ("ok", True)
    assert (await starter("outbox", "cancel", message, **folder)).code == 0
    assert (await starter("outbox", "list", "--json", **folder)).document == []


async def test_a_database_that_is_down_is_named_by_every_command_that_asks_it(
    starter: Starter, apart: Apart, tmp_path: Path
) -> None:
    folder = {
        "CONNECTIONS_URL": f"file://{tmp_path / 'connections'}",
        "RELAY_DATABASE_URL": apart.urls.relay,
    }
    await apart.add("acme", plan="enterprise")
    [name] = apart.names
    rotated = re.sub(r":[^:@/]+@", ":0ld@", apart.postgres.urls(name).relay)
    apart.secrets.put(f"{name}.relay", rotated)
    [refused] = (await starter("outbox", "list", "--json", **folder)).document
    assert refused["held_back"] == (
        f'the store "{name}" refuses the password or the role of the relay\'s URL. Only its '
        "tenants have to wait. Correct its URL in the secret store."
    )
    # As if the folder were another installation's: this is no store of that name.
    apart.secrets.put(f"{name}.tenant", apart.urls.tenant)
    elsewhere = await starter("explain", "acme/billing.cycle/2013-04", **folder)
    assert elsewhere.err.startswith("StoreMismatch: "), elsewhere.err
    assert elsewhere.code == 2
    for role in ("tenant", "relay"):
        apart.secrets.put(f"{name}.{role}", "postgresql://a:s3cr3t@127.0.0.1:1/x")
    [listed] = (await starter("outbox", "list", "--json", **folder)).document
    assert listed["tenant_id"] == "acme"
    assert listed["held_back"].startswith(f'the store "{name}" does not answer')
    explained = await starter("explain", "acme/billing.cycle/2013-04", **folder)
    assert explained.code == 3
    assert f'the store "{name}" refused the connection' in explained.err
    asked = await starter("imports", "list", "--tenant", "acme", **folder)
    assert asked.code == 3
    assert asked.err.endswith("Start its server, or correct its URL in the secret store.\n")
    ill = await starter("doctor", "--json", **folder)
    [check] = [each for each in ill.document["checks"] if each["name"] == "tenants' databases"]
    assert check["verdict"] == "failed"
    assert f'acme: the store "{name}" does not answer' in check["message"]
    apart.secrets.put(f"{apart.prepare()}.platform", "postgresql://a:s3cr3t@127.0.0.1:1/x")
    late = await starter("tenants", "add", "late", "--isolation", "database", **folder)
    assert late.code == 3
    assert late.err.startswith(f"StoreUnreachable: the store {apart.names[-1]} does not answer")
    nobody = await starter("outbox", "list", "--json", RELAY_DATABASE_URL=apart.urls.relay)
    assert "no secret store is set" in nobody.document[0]["held_back"]
    unknown = await starter("explain", "acme/billing.cycle/2013-04")
    assert unknown.code == 3
    assert "Set CONNECTIONS_URL to the folder with the connections" in unknown.err
    said = listed["held_back"] + explained.err + check["message"] + late.err
    assert "s3cr3t" not in said
    assert "127.0.0.1" not in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("stores", "add", "--isolation", "silo"), "'silo' is none of shared, schema, database."),
        (("stores", "add", "--isolation", "shared"), "StoreRefused: the shared store is"),
        (("stores", "add", "t_one", "--count", "2"), "several stores have no name"),
        (("stores", "add", "T"), "StoreRefused: 'T' cannot be the name of a store."),
        (("stores", "add", "--region", ""), "'' cannot be the name of a region."),
        (("stores", "add", "--region", "\x1b[31m"), r"'\x1b[31m' cannot be the name of a region."),
        (
            ("tenants", "add", "acme", "--isolation", "schema", "--region", "e\tu"),
            "cannot be the name of a region.",
        ),
        (("tenants", "add", "acme", "--region", "eu"), "the shared store is in no region."),
        (
            ("tenants", "add", "acme", "--region", "eu", "--isolation", "shared"),
            "StoreRefused: the shared store is in no region, so not in eu.",
        ),
        (("stores", "list", "--state", "full"), "'full' is none of preparing"),
        (("stores", "drain", "t_none"), "StoreUnknown: there is no store t_none."),
        (("stores", "undrain", "t_none"), "StoreUnknown: there is no store t_none."),
        (("stores", "drain", "shared"), "StoreUnknown: the shared store is not one that was"),
        (
            ("tenants", "add", "acme", "--store", "t_none"),
            "StoreUnknown: there is no store t_none.",
        ),
        (("tenants", "add", "acme", "--isolation", "silo"), "'silo' is none of shared"),
    ],
)
async def test_bad_input_is_one_sentence(
    starter: Starter, owners: dict[str, str], arguments: tuple[str, ...], sentence: str
) -> None:
    said = await starter(*arguments, **owners)
    assert said.code == 2
    assert sentence in said.err
    assert len(said.err.strip().splitlines()) == 1


async def test_a_database_that_is_not_there_makes_no_store(
    starter: Starter, owners: dict[str, str], tmp_path: Path
) -> None:
    prepare = ("stores", "add", "t_far", "--isolation", "database", "--database-url-from", "FAR")
    variables = owners | {"CONNECTIONS_URL": f"file://{tmp_path / 'connections'}"}
    away = await starter(*prepare, **variables, FAR="postgresql://a:s3cr3t@127.0.0.1:1/x")
    assert away.code == 3, away.err
    assert "127.0.0.1:1/x does not answer" in away.err
    assert away.err.endswith("Start it, or correct its URL.\n")  # "make dev" does not start it
    none = await starter(*prepare, **variables, FAR="mysql://a:s3cr3t@127.0.0.1/x")
    assert none.code == 2, none.err
    assert "s3cr3t" not in away.err + none.err
    assert (await starter("stores", "list", "--json")).document == []


async def test_preparing_needs_the_owners_url(starter: Starter) -> None:
    said = await starter("stores", "add", DATABASE_URL=None)
    assert said.code == 3
    assert "DATABASE_URL is not set." in said.err


async def test_migrate_reaches_the_stores_and_names_one_that_fails(
    starter: Starter, owners: dict[str, str], database_urls: DatabaseUrls
) -> None:
    added = await starter("stores", "add", "--count", "2", "--json", **owners)
    one, other = sorted(store["name"] for store in added.document)
    with connect(database_urls.owner) as owner:
        table = sql.Identifier(one, TENANT_DATA.version_table)
        # As if no migration had run: they meet what is there.
        forgotten = owner.execute(
            sql.SQL("delete from {} returning version_num").format(table)
        ).fetchone()
    failed = await starter("migrate", "--json", **owners)
    assert failed.code == 1
    assert failed.err.startswith("StoreBehind: 1 store could not be migrated")
    stores = failed.document["stores"]
    left = stores.pop("left")
    assert [(store["name"], store["reason"].partition(":")[0]) for store in left] == [
        (one, "DuplicateTable")
    ]
    assert stores == {
        "migrated": [],
        "up_to_date": [other],
        "given": [],
        "waiting": [],
        "halted": None,
    }
    told = await starter("migrate", "--status", "--json", **owners)
    assert [(each["store"], each["state"]) for each in told.document["stores"]] == [(one, "failed")]
    assert told.document["waves"] == [
        {"wave": "1", "stores": 1, "up_to_date": 0, "behind": 0, "failed": 1}
    ]
    with connect(database_urls.owner) as owner:
        owner.execute(sql.SQL("insert into {} values (%s)").format(table), forgotten)
    unknown = await starter("migrate", "--wave", "7", **owners)
    assert (unknown.code, unknown.err.partition(":")[0]) == (2, "WaveUnknown")
    plan = await starter("migrate", "--plan", "--canaries", one, **owners)
    assert plan.code == 0, plan.err
    assert "No store lacks a migration." in plan.out
    nobody = await starter("migrate", "--plan", "--canaries", "nobody", **owners)
    assert (nobody.code, nobody.err.partition(":")[0]) == (2, "TenantUnknown")
    told = await starter("migrate", **owners)
    assert told.out.splitlines()[:2] == ["The database was up to date.", "Up to date: 2 stores."]
