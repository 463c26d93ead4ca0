"""The leak check finds nothing in sound tables, and each hole that is made in them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from dev.devstack.postgres import DatabaseUrls, EmbeddedPostgres
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.testing import Leak, check_leaks
from tests.library.testing.sample import SHOP, Shop


@pytest.fixture(scope="module")
def urls(postgres: EmbeddedPostgres, migrated_template: str) -> Iterator[DatabaseUrls]:
    """A stranger's database: only the runtime roles are the library's, which the template made."""
    yield (urls := postgres.create_database("shop"))
    with connect(urls.superuser) as superuser:
        superuser.execute("drop schema shop cascade")
    postgres.drop_database("shop")


@pytest.fixture(scope="module")
def superuser(urls: DatabaseUrls) -> Iterator[psycopg.Connection[Any]]:
    with connect(urls.superuser) as superuser:
        superuser.execute("grant connect on database shop to tenancy_tenant")
        yield superuser


def build(superuser: psycopg.Connection[Any], column: str, type: str) -> None:
    superuser.execute(SHOP.format(column=column, type=type).encode())


def leaks(urls: DatabaseUrls, **options: Any) -> list[Leak]:
    return check_leaks(superuser_url=urls.superuser, tenant_url=urls.tenant, **options)


@pytest.mark.parametrize(
    ("column", "type", "options"),
    [
        ("tenant_id", "text", {}),
        ("organization_id", "uuid", {}),
        ("organization_id", "bigint", {"models": [Shop], "tenant_column": "organization_id"}),
    ],
)
def test_sound_tables_have_no_findings(
    urls: DatabaseUrls,
    superuser: psycopg.Connection[Any],
    column: str,
    type: str,
    options: dict[str, Any],
) -> None:
    build(superuser, column, type)
    assert [str(leak) for leak in leaks(urls, **options)] == []
