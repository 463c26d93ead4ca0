"""Fixtures that isolate the library from whatever else has been loaded."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dev.devstack.postgres import EmbeddedPostgres
from temporal_tenancy.core.migration_environment import MigrationEnvironment
from tests.fixtures.log_lines import LogLines, plain_log_lines
from tests.fixtures.postgres import make_template
from tests.fixtures.tables.models import TABLES

TEMPLATE = "template_library"


@pytest.fixture(scope="session")
def migrated_template(postgres: EmbeddedPostgres) -> str:
    """Returns the name of a template database with the tables of the library and the tests."""
    return make_template(postgres, TEMPLATE, TABLES)


@pytest.fixture(scope="session")
def tenant_tables() -> MigrationEnvironment:
    """Returns the migrations of the tests' own tables."""
    return TABLES


@pytest.fixture
def log_lines() -> Iterator[LogLines]:
    """Captures all log lines of the test, as a host without a log library would see them."""
    with plain_log_lines() as lines:
        yield lines
