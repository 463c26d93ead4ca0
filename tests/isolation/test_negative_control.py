"""The conformance suite fails where something is set up wrongly, and for that reason.

Its own test runs here against each wrong set-up, and must fail.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from dev.devstack.postgres import DatabaseUrls, EmbeddedPostgres
from temporal_tenancy.postgres import _store_entry as store_entry
from temporal_tenancy.postgres import tenant_owned
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.postgres.database_errors import DatabaseUnreachable
from tests.conformance import Mode
from tests.fixtures.pgbouncer import running_pgbouncer
from tests.isolation import test_pool
from tests.isolation.test_pool import (
    test_ten_thousand_interleaved_transactions_are_each_answered_as_their_tenant as interleaved,
)

IN_CONTROL = 60  # transactions: each wrong set-up fails in its first few
Change = Callable[[str], str]

POOLER, SCHEMAS = (
    pytest.mark.parametrize("mode", [mode], indirect=True, scope="module", ids=[str(mode)])
    for mode in (Mode.PGBOUNCER, Mode.SCHEMA)
)


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_pool, "IN_OTHER_MODES", IN_CONTROL)


@pytest.fixture
def change_first(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Change], None]]:
    """Changes the statement that names the tenant."""

    def changed(change: Change) -> None:
        wrong = change(tenant_owned._SET_TENANT)
        assert wrong != tenant_owned._SET_TENANT
        monkeypatch.setattr(tenant_owned, "_SET_TENANT", wrong)
        tenant_owned._set_tenant.cache_clear()

    yield changed
    tenant_owned._set_tenant.cache_clear()  # a fixture of this one, so it is restored after it


@pytest.fixture
def change_entry(monkeypatch: pytest.MonkeyPatch) -> Callable[[Change], None]:
    """Changes the message that enters a store."""

    def changed(change: Change) -> None:
        real = store_entry._message
        monkeypatch.setattr(store_entry, "_message", lambda *given: change(real(*given)))

    return changed


def for_the_session(setting: str) -> Change:
    """Returns what sets `setting` for the session, and no longer for the transaction."""

    def change(message: str) -> str:
        before, found, after = message.partition(setting)
        return before + found + after.replace("true)", "false)", 1)

    return change


@POOLER
async def test_a_tenant_that_is_set_for_the_session_is_found(
    database: Database,
    database_urls: DatabaseUrls,
    mode: Mode,
    caplog: pytest.LogCaptureFixture,
    change_first: Callable[[Change], None],
) -> None:
    change_first(for_the_session("'app.tenant_id'"))
    with pytest.raises(AssertionError, match="'tenant'"):
        await interleaved(database, database_urls, mode, caplog)


@SCHEMAS
@pytest.mark.parametrize("setting", ["search_path", "role"])
async def test_what_the_entry_of_a_store_sets_for_the_session_is_found(
    database: Database,
    database_urls: DatabaseUrls,
    mode: Mode,
    caplog: pytest.LogCaptureFixture,
    change_entry: Callable[[Change], None],
    setting: str,
) -> None:
    change_entry(for_the_session(f"'{setting}'"))
    with pytest.raises(AssertionError, match=f"'{setting}'"):
        await interleaved(database, database_urls, mode, caplog)


@pytest.fixture
async def wrongly_pooled(
    database_urls: DatabaseUrls, postgres: EmbeddedPostgres, tmp_path: Path
) -> AsyncIterator[Database]:
    """A database behind a pooler in statement mode."""
    with running_pgbouncer(tmp_path, postgres, "statement") as pooler:
        database = Database(tenant_url=pooler.urls(database_urls).tenant)
        yield database
        await database.dispose()


async def test_a_pooler_in_statement_mode_is_found(
    wrongly_pooled: Database,
    database_urls: DatabaseUrls,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(
        DatabaseUnreachable, match="transaction blocks not allowed in statement pooling mode"
    ):
        await interleaved(wrongly_pooled, database_urls, Mode.PGBOUNCER, caplog)
