"""The mutants of set-ups: stores and poolers that are set up wrongly.

They are the negative control of the conformance suite: its own tests must fail on each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from temporal_tenancy.postgres import _store_entry as store_entry
from temporal_tenancy.postgres import tenant_owned
from tests.mutants.mutant import Mutant, replace

POOL: Final = (
    "tests/isolation/test_pool.py::"
    "test_ten_thousand_interleaved_transactions_are_each_answered_as_their_tenant"
)


def _set_for_the_session() -> None:
    statement = tenant_owned._SET_TENANT
    assert "'app.tenant_id', :tenant, true" in statement
    replace(tenant_owned, "_SET_TENANT", statement.replace(":tenant, true", ":tenant, false"))


def _changed_entry(change: Callable[[str], str]) -> None:
    real = store_entry._message
    replace(store_entry, "_message", lambda *given: change(real(*given)))


def _share_the_path() -> None:
    _changed_entry(lambda message: message.replace("pg_catalog', true)", "pg_catalog', false)"))


SET_UPS: Final = [
    Mutant(
        "tenant-of-the-session",
        "the tenant is set for the session, behind a pooler that gives it to the next client",
        (f"{POOL}[pgbouncer]",),
        seed=_set_for_the_session,
    ),
    Mutant(
        "path-of-the-session",
        "a store's search_path is set for the session, which others share",
        (f"{POOL}[schema]",),
        seed=_share_the_path,
    ),
    Mutant(
        "pooler-for-statements",
        "a pooler in statement mode is in front of the database",
        (f"{POOL}[pgbouncer]",),
        environ={"PGBOUNCER_POOL_MODE": "statement"},
    ),
]
