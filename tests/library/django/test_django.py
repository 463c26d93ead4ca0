"""Django: the tenant of requests and commands, and the ORM's transactions for it."""

from __future__ import annotations

import io
import subprocess
import sys
import unittest
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import django
import psycopg
import pytest
from asgiref.sync import sync_to_async
from django.core.management import CommandError, call_command
from django.db import (
    DEFAULT_DB_ALIAS,
    DataError,
    Error,
    OperationalError,
    connection,
    connections,
    transaction,
)
from django.db.migrations import CreateModel, Migration
from django.db.migrations.state import ProjectState
from django.db.migrations.writer import MigrationWriter
from django.test import AsyncClient, Client, TestCase, override_settings
from sqlalchemy import make_url

import temporal_tenancy
from dev.devstack.postgres import DatabaseUrls, EmbeddedPostgres
from temporal_tenancy.core import scope as scopes
from temporal_tenancy.core.errors import (
    ConfigurationError,
    InvalidPayload,
    ScopeMissing,
    StoreUnsupported,
    TenancyError,
    TenantMismatch,
)
from temporal_tenancy.core.scope import TenantScope, enter
from temporal_tenancy.django import enqueue, once, tenant_atomic
from temporal_tenancy.outbox import KeyTaken
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database_errors import ExcessRights, StatementTimeout
from temporal_tenancy.postgres.session_limits import SessionLimits
from temporal_tenancy.postgres.transactions import tenant_transaction
from tests.fixtures.jobs import relay_jobs  # noqa: F401  (the job test.note)
from tests.library.django.site import AddEffect, Effect, add, setting

NAME = "django_connections"
NAMELESS = "the request GET /add has no tenant: the function of TENANCY_TENANT_OF returned None"


@pytest.fixture(scope="module")
def shared_urls(postgres: EmbeddedPostgres, migrated_template: str) -> Iterator[DatabaseUrls]:
    yield postgres.create_database(NAME, template=migrated_template)
    postgres.drop_database(NAME)


def use(url: str, **more: object) -> None:
    """Makes a database Django's default one."""
    connections.close_all()
    if hasattr(connections._connections, DEFAULT_DB_ALIAS):
        del connections[DEFAULT_DB_ALIAS]
    parsed = make_url(url)
    connections.settings = connections.configure_settings(
        {
            DEFAULT_DB_ALIAS: {
                "ENGINE": "django.db.backends.postgresql",
                "HOST": parsed.host,
                "PORT": parsed.port,
                "NAME": parsed.database,
                "USER": parsed.username,
                "PASSWORD": parsed.password,
                "CONN_MAX_AGE": None,
                **more,
            }
        }
    )


@pytest.fixture(autouse=True)
def urls(shared_urls: DatabaseUrls) -> Iterator[DatabaseUrls]:
    """The database, as the tenant role; emptied after the test."""
    use(shared_urls.tenant)
    yield shared_urls
    connections.close_all()
    with connect(shared_urls.superuser) as superuser:
        superuser.execute("delete from effects")
        superuser.execute("delete from tenancy.outbox_messages")
        superuser.execute("delete from tenancy.processed_events")


def committed(urls: DatabaseUrls, table: str = "effects") -> list[str]:
    with connect(urls.superuser) as superuser:
        rows = superuser.execute(f"select tenant_id from {table} order by 1".encode()).fetchall()
    return [tenant for (tenant,) in rows]


def scope(tenant: str) -> Any:
    return enter(TenantScope(tenant))


def test_the_orm_sees_and_writes_the_current_tenants_rows_alone(urls: DatabaseUrls) -> None:
    with scope("acme"):
        assert add() == ["acme"]
    with scope("globex"):
        assert add() == ["globex"]
        with tenant_atomic():
            assert Effect.objects.all().update(note="c") == 1
            assert Effect.objects.filter(tenant_id="acme").delete()[0] == 0
    assert committed(urls) == ["acme", "globex"]


def test_nothing_of_the_tenant_is_left_on_a_persistent_connection() -> None:
    with scope("acme"):
        with tenant_atomic():
            Effect.objects.create()
            with connection.cursor() as cursor:
                cursor.execute("create temporary table kept as select * from effects")
                cursor.execute("set app.tenant_id = 'acme'")
                pid = connection.connection.info.backend_pid
        assert connection.connection.info.backend_pid == pid
        assert setting() == ""
        assert list(Effect.objects.all()) == []
        with connection.cursor() as cursor:
            cursor.execute("select to_regclass('pg_temp.kept')")
            assert cursor.fetchone() == (None,)


def test_an_error_rolls_back_and_names_no_value(urls: DatabaseUrls) -> None:
    with scope("acme"):
        with pytest.raises(DataError) as refused, tenant_atomic():
            Effect.objects.create()
            connection.cursor().execute("select cast(%s as int)", ["secretive"])
        with pytest.raises(ValueError, match="own"):
            fail()
    assert "secretive" not in str(refused.value)
    assert "secretive" not in str(refused.value.__cause__)
    assert "22P02" in str(refused.value)
    assert committed(urls) == []


@tenant_atomic()
def fail() -> None:
    Effect.objects.create()
    raise ValueError("own")


def test_a_row_of_another_tenant_is_refused(urls: DatabaseUrls) -> None:
    with scope("acme"):
        with pytest.raises(TenantMismatch, match="row-level security refused"), tenant_atomic():
            Effect.objects.create(tenant_id="globex")
        with pytest.raises(StatementTimeout), tenant_atomic(limits=SHORT):
            connection.cursor().execute("select pg_sleep(10)")
    assert committed(urls) == []


SHORT = SessionLimits(statement=timedelta(milliseconds=50))


def test_without_a_tenant_nothing_is_sent() -> None:
    with pytest.raises(ScopeMissing), tenant_atomic():
        pytest.fail("entered")
    assert connection.connection is None


def test_a_block_inside_one_is_a_savepoint(urls: DatabaseUrls) -> None:
    with scope("acme"), tenant_atomic():
        Effect.objects.create()
        with pytest.raises(ValueError, match="own"):
            fail()
        with pytest.raises(TenantMismatch), tenant_atomic():
            Effect.objects.create(tenant_id="globex")
        with transaction.atomic():
            assert add() == ["acme", "acme"]
    assert committed(urls) == ["acme", "acme"]


def test_a_block_inside_one_of_another_tenant_is_refused(urls: DatabaseUrls) -> None:
    first, second = scope("acme"), scope("globex")
    first.__enter__()
    with pytest.raises(TenantMismatch, match='belongs to tenant "acme"'), tenant_atomic():
        Effect.objects.create()
        first.__exit__(None, None, None)
        second.__enter__()
        add()
    second.__exit__(None, None, None)
    assert committed(urls) == []


def test_a_commit_whose_scope_has_closed_is_refused(urls: DatabaseUrls) -> None:
    around = scope("acme")
    around.__enter__()
    with pytest.raises(ScopeMissing), tenant_atomic():
        Effect.objects.create()
        around.__exit__(None, None, None)
    assert committed(urls) == []


def test_a_block_in_a_transaction_of_the_application_is_refused() -> None:
    with scope("acme"):
        with transaction.atomic(), pytest.raises(ScopeMissing, match="outside every atomic"):
            add()
        with transaction.atomic():
            connection.cursor().execute("select 1")
            with pytest.raises(ScopeMissing, match="not begun for tenant acme"):
                add()
        transaction.set_autocommit(False)
        with pytest.raises(ScopeMissing):
            add()
        transaction.rollback()
        transaction.set_autocommit(True)


def test_a_transaction_that_is_marked_for_rollback_is_rolled_back(urls: DatabaseUrls) -> None:
    with scope("acme"):
        with tenant_atomic():
            Effect.objects.create()
            transaction.set_rollback(True)
        assert add() == ["acme"]
    assert committed(urls) == ["acme"]


def test_a_transaction_that_sql_ends_is_noticed_and_its_connection_replaced(
    urls: DatabaseUrls,
) -> None:
    with scope("acme"):
        with pytest.raises(ScopeMissing, match="ended the transaction"), tenant_atomic():
            connection.cursor().execute("rollback")
            assert list(Effect.objects.all()) == []
        with pytest.raises(TenantMismatch, match="changed the tenant"), tenant_atomic():
            connection.cursor().execute("set app.tenant_id = 'globex'")
            Effect.objects.create(tenant_id="globex")
        assert add() == ["acme"]
    assert committed(urls) == ["acme"]


def test_callbacks_of_a_commit_run_in_the_scope_but_outside_the_tenants_transaction() -> None:
    seen: list[object] = []

    def after() -> None:
        seen.append((setting(), list(Effect.objects.all())))
        seen.append(add())

    with scope("acme"), tenant_atomic():
        Effect.objects.create()
        transaction.on_commit(after)
    assert seen == [("", []), ["acme", "acme"]]


@pytest.mark.parametrize("role", ["superuser", "owner", "relay"])
def test_a_role_that_sees_more_than_one_tenant_is_refused(urls: DatabaseUrls, role: str) -> None:
    use(getattr(urls, role))
    with scope("acme"), pytest.raises(ExcessRights):
        add()


def test_a_role_that_django_assumes_is_checked_with_the_login(urls: DatabaseUrls) -> None:
    use(urls.superuser, OPTIONS={"assume_role": "tenancy_tenant"})
    with scope("acme"), pytest.raises(ExcessRights, match="postgres is a superuser"):
        add()


def test_another_database_is_refused() -> None:
    connections.settings = connections.configure_settings(
        {DEFAULT_DB_ALIAS: {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
    )
    with scope("acme"), pytest.raises(ConfigurationError, match="psycopg 3"):
        add()


@pytest.mark.skipif(django.VERSION < (5, 1), reason="Django has pools since 5.1")
def test_a_pool_is_fine(urls: DatabaseUrls) -> None:
    use(urls.tenant, CONN_MAX_AGE=0, OPTIONS={"pool": {"min_size": 1, "max_size": 1}})
    for tenant in ("acme", "globex"):
        with scope(tenant):
            assert add() == [tenant]
        connection.close()  # to the pool
        assert setting() == ""
        connection.close()
    connection.close_pool()


def test_a_request_for_a_job_is_in_the_same_transaction(urls: DatabaseUrls) -> None:
    with scope("acme"):
        with tenant_atomic():
            first = enqueue("test.note", {"text": "a"}, key="k")
            assert enqueue("test.note", {"text": "a"}, key="k") == first
            with pytest.raises(KeyTaken):
                enqueue("test.note", {"text": "b"}, key="k")
            with pytest.raises(InvalidPayload):
                enqueue("test.note", {"text": 7})
            assert once("mailer", "e1")
            assert not once("mailer", "e1")
        with pytest.raises(ValueError, match="own"), tenant_atomic():
            enqueue("test.note", {}, key="lost")
            raise ValueError("own")
        with pytest.raises(ScopeMissing, match=r"Call it inside: with tenant_atomic\(\)\."):
            enqueue("test.note", {})
        with transaction.atomic(), pytest.raises(ScopeMissing):
            once("mailer", "e2")
    assert committed(urls, "tenancy.outbox_messages") == ["acme"]
    assert committed(urls, "tenancy.processed_events") == ["acme"]


@pytest.mark.parametrize("end", ["well", "an error", "Rollback"])
@pytest.mark.parametrize(
    "statements",
    [
        ["set app.tenant_id = 'acme'", "commit"],
        ["declare held cursor with hold for select * from effects", "commit"],
        ["create temporary table kept as select * from effects", "commit"],
        ["commit", "begin", "select set_config('app.tenant_id', 'acme', true)"],
        ["reset all"],
        ["reset app.tenant_id"],
        ["discard all"],
        ["rollback"],
        ["set app.tenant_id = 'globex'", "commit"],
        ["savepoint s", "set local app.tenant_id = 'globex'", "rollback to s"],
    ],
    ids=" + ".join,
)
def test_whatever_sql_does_in_a_block_leaves_nothing_on_the_connection(
    urls: DatabaseUrls, statements: list[str], end: str
) -> None:
    def attack() -> None:
        with tenant_atomic():
            Effect.objects.create()
            with connection.cursor() as cursor:
                for statement in statements:
                    with suppress(Error):
                        cursor.execute(statement)
            if end == "an error":
                raise ValueError(end)
            if end == "Rollback":
                transaction.set_rollback(True)

    with scope("acme"):
        with suppress(ValueError, Error, TenancyError):
            attack()
        with connection.cursor() as cursor:
            cursor.execute(
                "select coalesce(current_setting('app.tenant_id', true), ''), "
                "(select count(*) from pg_cursors where is_holdable), "
                "(select count(*) from pg_class where relnamespace = pg_my_temp_schema()), "
                "(select count(*) from effects)"
            )
            assert cursor.fetchone() == ("", 0, 0, 0)
        assert set(add()) == {"acme"}  # the next block works, on this connection or another


def test_a_connection_that_is_cut_is_replaced_for_the_next_query(urls: DatabaseUrls) -> None:
    with scope("acme"):
        with pytest.raises(ValueError, match="own"), tenant_atomic():
            connection.cursor().execute("set app.tenant_id = 'acme'; commit")
            raise ValueError("own")
        assert setting() == ""
        assert list(Effect.objects.all()) == []


def test_an_error_that_a_block_catches_rolls_back_as_in_atomic(urls: DatabaseUrls) -> None:
    """As the page says: in silence, because Django asks for it."""
    with scope("acme"):
        with tenant_atomic():
            first = Effect.objects.create()
            with suppress(Error):
                Effect.objects.create(id=first.id)
        assert committed(urls) == []
        with tenant_atomic():
            Effect.objects.create(id=first.id)
            with suppress(Error), transaction.atomic():
                Effect.objects.create(id=first.id)
    assert committed(urls) == ["acme"]


def test_a_commit_that_the_server_refuses_leaves_nothing(urls: DatabaseUrls) -> None:
    def both() -> None:
        with tenant_atomic():
            Effect.objects.count()
            Effect.objects.create()
            with psycopg.connect(urls.tenant.replace("+psycopg", "")) as other:
                other.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
                with tenant_transaction(other):
                    other.execute("select count(*) from effects")
                    other.execute(
                        "insert into effects (tenant_id, subject, note) values ('acme', 'a', 'b')"
                    )

    use(urls.tenant, OPTIONS={"isolation_level": psycopg.IsolationLevel.SERIALIZABLE})
    with scope("acme"), pytest.raises(OperationalError):
        both()
    assert setting() == ""
    assert committed(urls) == ["acme"]


def test_a_view_runs_for_the_tenant_of_its_request(urls: DatabaseUrls) -> None:
    client = Client()
    assert client.get("/add", headers={"Tenant": "acme"}).content == b"acme"
    assert client.get("/add", headers={"Tenant": "globex"}).content == b"globex"
    with override_settings(TENANCY_TENANT_OF="tests.library.django.site.tenant_of_later"):
        assert Client().get("/add", headers={"Tenant": "globex"}).content == b"globex,globex"
    with pytest.raises(ScopeMissing, match=NAMELESS):
        client.get("/add")
    with pytest.raises(RuntimeError, match="after the write"):
        client.get("/failing", headers={"Tenant": "acme"})
    assert committed(urls) == ["acme", "globex", "globex"]


async def test_an_async_view_of_a_request_without_a_tenant_is_told() -> None:
    with pytest.raises(ScopeMissing, match=NAMELESS.replace("add", "async")):
        await AsyncClient().get("/async")
    with pytest.raises(ScopeMissing, match="outside any job"), tenant_atomic():
        pytest.fail("entered")  # the request is over


def test_a_tenant_with_a_store_of_its_own_is_refused(urls: DatabaseUrls) -> None:
    with override_settings(TENANCY_TENANT_OF="tests.library.django.site.tenant_with_record"):
        assert Client().get("/add", headers={"Tenant": "acme"}).content == b"acme"
        with pytest.raises(StoreUnsupported, match="store7"):
            Client().get("/add", headers={"Tenant": "globex"})
    assert committed(urls) == ["acme"]


@pytest.mark.parametrize("find", ["tenant_of", "tenant_of_later"])
@pytest.mark.parametrize("path", ["/async", "/add"])
async def test_an_async_view_runs_for_the_tenant_of_its_request(find: str, path: str) -> None:
    with override_settings(TENANCY_TENANT_OF=f"tests.library.django.site.{find}"):
        client = AsyncClient()
        answer = await client.get(path, headers={"Tenant": "acme"})
        assert answer.content == b"acme"
        answer = await client.get(path, headers={"Tenant": "globex"})
        assert answer.content == b"globex"
        with pytest.raises(ScopeMissing):
            await client.get(path)
    await sync_to_async(connections.close_all)()


def test_what_is_streamed_after_the_view_has_no_tenant() -> None:
    answer = Client().get("/streaming", headers={"Tenant": "acme"})
    with pytest.raises(ScopeMissing):
        b"".join(answer.streaming_content)


def test_a_view_in_a_transaction_of_its_request_is_refused(urls: DatabaseUrls) -> None:
    use(urls.tenant, ATOMIC_REQUESTS=True)
    with pytest.raises(ScopeMissing, match="ATOMIC_REQUESTS"):
        Client().get("/add", headers={"Tenant": "acme"})


def test_the_middleware_needs_its_setting() -> None:
    with (
        override_settings(TENANCY_TENANT_OF=None),
        pytest.raises(ConfigurationError, match="TENANCY_TENANT_OF"),
    ):
        Client().get("/add")


def test_a_command_runs_for_the_tenant_that_it_names(urls: DatabaseUrls) -> None:
    out = io.StringIO()
    call_command(AddEffect(), tenant="acme", times=2, stdout=out, skip_checks=True)
    assert out.getvalue() == "acme\nacme,acme\n"
    command = AddEffect(stdout=out, stderr=out)
    with patch.object(AddEffect, "requires_system_checks", []):
        command.run_from_argv(["manage.py", "add_effect", "--tenant", "globex"])
    assert committed(urls) == ["acme", "acme", "globex"]
    with pytest.raises(CommandError, match="TenantInvalid"):
        call_command(AddEffect(), tenant="Not One", skip_checks=True)
    with pytest.raises(CommandError, match="--tenant"):
        call_command(AddEffect(), skip_checks=True)


class InATestCase(TestCase):
    """What an application's own tests look like."""

    __test__ = False  # run by the test below
    databases = {DEFAULT_DB_ALIAS}

    def test_blocks_work_in_the_transaction_of_the_test(self) -> None:
        for tenant in ("acme", "globex"):
            with scope(tenant):
                assert add() == [tenant]
                with pytest.raises(ValueError, match="own"):
                    fail()
            assert setting() == ""
            with scope(tenant), tenant_atomic(), tenant_atomic():
                assert Effect.objects.count() == 1
        assert list(Effect.objects.all()) == []


def test_blocks_work_in_djangos_own_test_case(urls: DatabaseUrls) -> None:
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(InATestCase).run(result)
    assert (result.testsRun, result.errors, result.failures) == (1, [], [])
    assert committed(urls) == []


def test_migrations_name_only_what_is_public() -> None:
    """Also in those that were written when `current_tenant` had a private path."""
    names = ("id", "tenant_id", "subject", "note")
    fields = [(name, Effect._meta.get_field(name).clone()) for name in names]
    written = type("Migration", (Migration,), {"operations": [CreateModel("Effect", fields)]})
    text = MigrationWriter(written("0001_initial", "tests")).as_string()
    assert "import temporal_tenancy\n" in text
    assert "default=temporal_tenancy.current_tenant" in text
    assert "temporal_tenancy." not in text.replace("temporal_tenancy.current_tenant", "")
    made: dict[str, Any] = {}
    exec(text, made)  # noqa: S102  (as Django imports it)
    state = made["Migration"]("0001_initial", "tests").mutate_state(ProjectState())
    tenant = state.models["tests", "effect"].fields["tenant_id"]
    assert tenant.default is temporal_tenancy.current_tenant is scopes.current_tenant


def test_the_library_needs_no_django() -> None:
    code = (
        "import sys; sys.modules['django'] = sys.modules['asgiref'] = None\n"
        "from temporal_tenancy.outbox import enqueue_in\n"
        "from temporal_tenancy.postgres import tenant_transaction\n"
        "import temporal_tenancy.django\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
