"""The mutants of stores: faults in where a session goes, in what it leaves, and in the cap."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncSession

from temporal_tenancy.cli import _environment
from temporal_tenancy.core.stores import Store
from temporal_tenancy.dead_letters import recording
from temporal_tenancy.outbox import Relay
from temporal_tenancy.outbox.relay import store_rounds
from temporal_tenancy.outbox.relay.store_outbox import (
    StoreOfTenant,
    StoreOutbox,
    stores_with_outboxes,
)
from temporal_tenancy.outbox.relay.store_rounds import StoreRounds
from temporal_tenancy.postgres import _store_entry as store_entry
from temporal_tenancy.postgres import control_session, store_roles, transactions
from temporal_tenancy.postgres._connection_cap import ConnectionCap
from temporal_tenancy.postgres._servers import Server
from temporal_tenancy.postgres._shared_only import SharedOnly
from temporal_tenancy.postgres._store_engines import StoreEngines
from temporal_tenancy.postgres.database import Database
from tests.mutants.mutant import Mutant, replace

STORES: Final = "tests/library/postgres/test_stores.py"
OUTBOXES: Final = "tests/library/outbox/test_store_outboxes.py"
DOORS: Final = "tests/library/stores/test_doors_without_stores.py"
SCHEMAS: Final = "tests/library/stores/test_schema_stores.py"
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


def _ask_for_no_store() -> None:
    async def require(self: SharedOnly, tenant: str) -> None: ...

    replace(SharedOnly, "require", require)


def _give_commands_no_stores() -> None:
    replace(_environment, "Database", lambda **given: Database(**{**given, "stores": None}))


def _visit_the_next_tenants_store() -> None:
    real = stores_with_outboxes

    async def next_ones(session: AsyncSession) -> Sequence[StoreOfTenant]:
        found = await real(session)
        return [
            dataclasses.replace(store, secret=found[(at + 1) % len(found)].secret)
            for at, store in enumerate(found)
        ]

    replace(store_rounds, "stores_with_outboxes", next_ones)


def _let_the_relay_compare_no_owner() -> None:
    async def require_own(self: StoreOutbox, session: AsyncSession) -> None: ...

    replace(StoreOutbox, "_require_own", require_own)


def _try_every_silent_store() -> None:
    replace(StoreRounds, "_is_suspect", lambda self, store: False)
    replace(StoreRounds, "_due", lambda self, store: store.due)


def _keep_letters_in_the_store() -> None:
    @asynccontextmanager
    async def same(session: AsyncSession, reason: str, *, owners: object) -> Any:
        yield session

    replace(recording, "control_session", same)


def _keep_each_input_apart() -> None:
    real = recording._message_of
    replace(recording, "_message_of", lambda letter_id: real(uuid4()))


def _keep_the_input_of_who_was_overtaken() -> None:
    real = recording._refer

    async def whatever(*given: Any) -> bool:
        await real(*given)
        return True

    replace(recording, "_refer", whatever)


def _tell_nobody_of_the_directory() -> None:
    replace(StoreRounds, "_tell_of_directory", lambda self, why: None)


def _take_no_slot_for_a_store() -> None:
    async def all_of_them(self: Relay, units: Any, *given: Any) -> Any:
        return units

    replace(Relay, "_with_slots", all_of_them)


def _write_for_anybody() -> None:
    whole = control_session.control_session

    def of_nobody(session: Any, reason: str, *, owners: Any) -> Any:
        return whole(session, reason, owners=())

    replace(recording, "control_session", of_nobody)


STORE_FAULTS: Final = [
    Mutant(
        "control-plane-for-anybody",
        "a tenant with a database of its own records dead letters of another",
        (f"{STORES}::test_a_tenants_session_records_no_letter_of_another",),
        seed=_write_for_anybody,
    ),
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
        "store-without-bulk-loads",
        "a store's role may make no temporary table",
        (f"{SCHEMAS}::test_a_bulk_load_into_a_store_goes_through_a_temporary_table",),
        seed=lambda: replace(store_roles, "_admit_bulk_loads", lambda *given: None),
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
    Mutant(
        "shared-for-all",
        "a process that knows no stores works in the shared tables for every tenant",
        (f"{DOORS}::test_a_tenant_with_a_store_is_never_in_the_shared_tables",),
        seed=_ask_for_no_store,
    ),
    Mutant(
        "commands-without-stores",
        "the commands of an application know no stores",
        (f"{DOORS}::test_a_tenant_with_a_store_is_never_in_the_shared_tables",),
        seed=_give_commands_no_stores,
    ),
    Mutant(
        "relay-at-the-next-store",
        "a relay visits the database of the next tenant",
        (f"{OUTBOXES}::test_no_more_connections_are_open_than_there_may_be",),
        seed=_visit_the_next_tenants_store,
    ),
    Mutant(
        "relay-compares-no-owner",
        "a relay does not compare whose a store is",
        (f"{OUTBOXES}::test_a_store_of_another_tenant_is_neither_read_nor_written",),
        seed=_let_the_relay_compare_no_owner,
    ),
    Mutant(
        "silent-stores-tried-at-once",
        "stores that are down keep a relay from those that answer",
        (f"{OUTBOXES}::test_a_store_that_never_answers_holds_back_its_own_tenant_alone",),
        seed=_try_every_silent_store,
    ),
    Mutant(
        "letters-kept-in-the-store",
        "the dead letters of a tenant in a database are where no operator looks",
        (f"{OUTBOXES}::test_a_dead_letter_is_in_the_control_plane_and_is_replayed",),
        seed=_keep_letters_in_the_store,
    ),
    Mutant(
        "input-for-each-writer",
        "who write one letter at once each keep an input in the tenant's database",
        (
            "tests/library/dead_letters/test_dead_letter_recording.py::"
            "test_who_write_the_same_at_once_write_one_letter[database]",
        ),
        seed=_keep_each_input_apart,
    ),
    Mutant(
        "overtaken-input-kept",
        "a letter that a later run has reopened gets the input of the run before it",
        (
            "tests/library/dead_letters/test_letters_of_databases.py::"
            "test_who_is_overtaken_by_a_later_run_takes_its_input_back",
        ),
        seed=_keep_the_input_of_who_was_overtaken,
    ),
    Mutant(
        "store-without-slots",
        "a tenant in a database runs more jobs than its cap",
        (f"{OUTBOXES}::test_a_pause_a_suspension_and_a_cap_hold_in_a_database_too",),
        seed=_take_no_slot_for_a_store,
    ),
    Mutant(
        "unreadable-directory-not-told",
        "nobody hears that a relay cannot read the directory for a tenant in a database",
        (
            "tests/library/outbox/test_relay.py::test_a_relay_that_may_no_longer_read_the_"
            "directory_says_so_and_goes_on[database]",
        ),
        seed=_tell_nobody_of_the_directory,
    ),
]
