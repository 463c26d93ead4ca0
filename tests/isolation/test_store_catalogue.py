"""The catalogue lint in a database with schema stores: nothing where they are sound, each fault."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from dev.devstack.postgres import DatabaseUrls, EmbeddedPostgres
from saas.database.environment import TENANT_DATA
from temporal_tenancy.core.migration_environment import LIBRARY
from temporal_tenancy.core.stores import Isolation
from temporal_tenancy.lint import catalogue
from temporal_tenancy.lint.catalogue import Finding
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.stores.preparation import Preparation

STORES = ("t_one", "t_other")


def lint(connection: psycopg.Connection[Any]) -> list[Finding]:
    return catalogue.lint(connection, environments=[*LIBRARY, TENANT_DATA])


@pytest.fixture(scope="module")
def urls(postgres: EmbeddedPostgres, migrated_template: str) -> Iterator[DatabaseUrls]:
    """A database with two stores of the reference SaaS's tables."""
    urls = postgres.create_database("store_catalogue", template=migrated_template)
    preparation = Preparation(urls.owner, application=[TENANT_DATA])
    for name in STORES:
        preparation.prepare(Isolation.SCHEMA, name=name)
    yield urls
    for name in STORES:
        preparation.remove(name)
    postgres.drop_database("store_catalogue")


@pytest.fixture
def superuser(urls: DatabaseUrls) -> Iterator[psycopg.Connection[Any]]:
    """A superuser in a transaction that is rolled back."""
    with connect(urls.superuser) as connection, connection.transaction(force_rollback=True):
        yield connection


@pytest.mark.parametrize("role", ["owner", "tenant", "platform", "superuser"])
def test_sound_stores_are_without_findings(urls: DatabaseUrls, role: str) -> None:
    with connect(getattr(urls, role)) as connection:
        assert lint(connection) == []


@pytest.mark.parametrize(
    ("check", "fault", "name"),
    [
        ("role-attribute", "alter role t_one bypassrls", "t_one"),
        ("role-membership", "grant t_other to t_one", "t_one"),
        ("role-membership", "grant t_other to tenancy_relay", "tenancy_relay"),
        ("role-owns", "alter table t_one.invoices owner to t_one", "t_one.invoices"),
        ("role-creates", "grant create on schema t_one to t_one", "schema t_one"),
        ("store-role-login", "alter role t_one login", "t_one"),
        ("store-role-entered", "create role auditor; grant t_one to auditor", "auditor"),
        ("store-role-elsewhere", "grant usage on schema t_other to t_one", "t_other"),
        ("store-role-elsewhere", "grant select on t_other.invoices to t_one", "t_other.invoices"),
        ("store-role-elsewhere", "grant select on public.invoices to t_one", "invoices"),
        (
            "store-role-elsewhere",
            "grant update on t_one.store_identity to t_one",
            "t_one.store_identity",
        ),
        ("store-open", "grant usage on schema t_one to tenancy_tenant", "t_one"),
        ("store-open", "grant select on t_one.invoices to tenancy_tenant", "t_one.invoices"),
        (
            "row-security-off",
            "alter table t_one.invoices disable row level security",
            "t_one.invoices",
        ),
        (
            "row-security-not-forced",
            "alter table t_one.invoices no force row level security",
            "t_one.invoices",
        ),
        ("policy-missing", "drop policy tenant_isolation on t_one.invoices", "t_one.invoices"),
        (
            "policy-altered",
            "alter policy tenant_access on t_one.invoices to t_one, t_other",
            "t_one.invoices",
        ),
        (
            "policy-altered",
            "alter policy tenant_access on tenancy.outbox_messages to public",
            "tenancy.outbox_messages",
        ),
        (
            "policy-extra",
            "create policy p on t_one.invoices to t_one using (true)",
            "t_one.invoices",
        ),
    ],
    ids=lambda value: value[:50],
)
def test_a_fault_in_a_store_is_found(
    superuser: psycopg.Connection[Any], check: str, fault: str, name: str
) -> None:
    superuser.execute(fault.encode())
    found = {(finding.check, finding.object) for finding in lint(superuser)}
    assert (check, name) in found
