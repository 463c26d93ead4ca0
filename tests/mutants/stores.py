"""The mutants of stores: faults in where a session goes, in what it leaves, and in the cap."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any, Final

from temporal_tenancy.core.stores import Store
from temporal_tenancy.postgres import _store_entry as store_entry
from temporal_tenancy.postgres import transactions
from temporal_tenancy.postgres._connection_cap import ConnectionCap
from temporal_tenancy.postgres._servers import Server
from temporal_tenancy.postgres._store_engines import StoreEngines
from tests.mutants.mutant import Mutant, replace

STORES: Final = "tests/library/postgres/test_stores.py"
CONNECTIONS: Final = "tests/library/postgres/test_store_connections.py"


def _take_the_next_tenants_store() -> None:
    real = StoreEngines.store_of

    async def next_ones(self: StoreEngines, tenant: str) -> Store | None:
        stores: Any = self.directory
        named = list(stores.stores)
        at = named.index(tenant) if tenant in named else 0
        return await real(self, named[(at + 1) % len(named)] if named else tenant)

    replace(StoreEngines, "store_of", next_ones)


def _change_message(change: Callable[[str], str]) -> None:
    real = store_entry._message
    replace(store_entry, "_message", lambda *given: change(real(*given)))


def _leave_no_role() -> None:
    def kept(message: str) -> str:
        before, role, after = message.partition("set_config('role', ")
        return before + role + after.replace("true)", "false)", 1)

    _change_message(kept)


def _keep_the_path() -> None:
    _change_message(lambda message: message.replace("pg_catalog', true)", "pg_catalog', false)"))


def _compare_no_owner() -> None:
    replace(store_entry, "_require_own", lambda rows, store, tenant: None)


def _count_on() -> None:
    @contextmanager
    def opening(self: ConnectionCap) -> Any:
        with real(self):
            yield
        self._opening += 1

    real = ConnectionCap.opening
    replace(ConnectionCap, "opening", opening)


def _keep_what_is_idle() -> None:
    replace(ConnectionCap, "_close_one", lambda self: False)


def _count_nothing() -> None:
    replace(ConnectionCap, "count", lambda self: 0)


def _admit_everybody() -> None:
    async def admit(self: Server, session: object) -> bool:
        return False

    replace(Server, "admit", admit)


def _keep_the_old_url() -> None:
    async def retire(self: StoreEngines, url: str) -> None: ...

    replace(StoreEngines, "_retire", retire)


def _take_any_tenant() -> None:
    replace(transactions, "record_of_this_activity", lambda: None)


STORE_FAULTS: Final = [
    Mutant(
        "store-of-the-next",
        "a session goes to the store of the next tenant",
        (f"{STORES}::test_a_sound_set_up_passes",),
        seed=_take_the_next_tenants_store,
    ),
    Mutant(
        "store-role-not-left",
        "a store's role outlives the transaction",
        (f"{STORES}::test_a_sound_set_up_passes",),
        seed=_leave_no_role,
    ),
    Mutant(
        "store-path-kept",
        "a store's search_path outlives the transaction",
        (f"{STORES}::test_a_sound_set_up_passes",),
        seed=_keep_the_path,
    ),
    Mutant(
        "store-owner-not-compared",
        "nobody compares whose a store is",
        (f"{STORES}::test_a_store_that_is_not_this_tenants_is_neither_read_nor_written",),
        seed=_compare_no_owner,
    ),
    Mutant(
        "cap-not-returned",
        "a connection that has been opened stays counted as being opened",
        (f"{CONNECTIONS}::test_two_hundred_stores_share_twenty_connections",),
        seed=_count_on,
    ),
    Mutant(
        "cap-held-by-idle-connections",
        "an idle connection of one store keeps another store from one",
        (f"{CONNECTIONS}::test_two_hundred_stores_share_twenty_connections",),
        seed=_keep_what_is_idle,
    ),
    Mutant(
        "cap-not-kept",
        "a process opens as many connections as its stores want",
        (f"{CONNECTIONS}::test_two_hundred_stores_share_twenty_connections",),
        seed=_count_nothing,
    ),
    Mutant(
        "silent-server-waited-for",
        "sessions hold connections while a server does not answer",
        (f"{CONNECTIONS}::test_a_silent_server_fails_at_once_for_as_long_as_it_was_waited_for",),
        seed=_admit_everybody,
    ),
    Mutant(
        "old-url-kept",
        "the connections of a store's old URL stay open",
        (f"{CONNECTIONS}::test_another_url_replaces_the_engine",),
        seed=_keep_the_old_url,
    ),
    Mutant(
        "raw-in-the-wrong-store",
        "a connection of the application's own is used for a tenant with a store",
        (f"{CONNECTIONS}::test_a_connection_of_ones_own_is_not_used_for_a_tenant_with_a_store",),
        seed=_take_any_tenant,
    ),
]
