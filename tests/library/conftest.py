"""Fixtures in which the library is by itself, whatever others have been loaded beside it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dev.devstack.postgres import EmbeddedPostgres
from tests.fixtures.log_lines import LogLines, plain_log_lines
from tests.fixtures.postgres import make_template
from tests.fixtures.tables.models import TABLES

TEMPLATE = "template_library"


@pytest.fixture(scope="session")
def migrated_template(postgres: EmbeddedPostgres) -> str:
    """The name of a database with the library's tables and the tests', to be copied."""
    return make_template(postgres, TEMPLATE, TABLES)


@pytest.fixture
def log_lines() -> Iterator[LogLines]:
    """All log lines of the test, as a host without a log library would have them."""
    with plain_log_lines() as lines:
        yield lines
