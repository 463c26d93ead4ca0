"""Runs the migrations that stores lack, each store by itself, as the databases' owner."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from temporal_tenancy.core.migration_environment import LIBRARY, MigrationEnvironment
from temporal_tenancy.core.stores import Isolation
from temporal_tenancy.core.words import duration, number
from temporal_tenancy.postgres.connections import answers, connect
from temporal_tenancy.postgres.database_errors import DatabaseUnreachable, MigrationBlocked
from temporal_tenancy.postgres.installation import Installation
from temporal_tenancy.postgres.lock_timeouts import milliseconds
from temporal_tenancy.postgres.migrations import (
    SET_LOCK_TIMEOUT,
    Patience,
    is_blocked,
    migrate,
    owners_transaction,
    pending,
    revisions_at,
    revisions_in,
    schemas_behind,
)
from temporal_tenancy.postgres.schema_in_use import schema_in_use
from temporal_tenancy.postgres.secret_texts import hidden
from temporal_tenancy.stores import _database_stores as database_stores
from temporal_tenancy.stores import _schema_stores as schema_stores
from temporal_tenancy.stores._side_processes import side_processes
from temporal_tenancy.stores.errors import reason_at_store, reason_of
from temporal_tenancy.stores.waves import (
    StoreMigration,
    Waves,
    save,
    store_migrations,
    wave_name,
    wave_of,
)

_TURN: Final = sql.SQL(
    "insert into {} (name) values (%s) on conflict (name) do update set name = excluded.name"
)
_PLANNED: Final = "waves of stores"  # the turn to fix them
_DONE: Final = sql.SQL(
    "update {} set versions = %s, versions_at = now(), failure = null where name = %s"
)
_FAILED: Final = sql.SQL("update {} set failure = %s where name = %s")

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoreLeft:
    """A store that has stayed as it was, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class UpgradedStores:
    """What upgrading the stores has come to, by name."""

    migrated: tuple[str, ...] = ()
    up_to_date: tuple[str, ...] = ()
    left: tuple[StoreLeft, ...] = ()
    given: tuple[str, ...] = ()  # databases that others made: their owners' URLs are kept nowhere
    waiting: tuple[str, ...] = ()  # in waves that have not begun
    halted: str | None = None  # the wave with too many failures, after which no other began


def upgrade_stores(
    owner_url: str,
    *,
    application: Sequence[MigrationEnvironment] = (),
    installation: Installation | None = None,
    patience: Patience | None = None,
    waves: Waves | None = None,
    wave: str | None = None,
    verify: bool = False,
) -> UpgradedStores:
    """Runs the migrations that prepared stores lack, wave by wave; call it after `migrate()`.

    Each schema is one transaction, and each database too: one that fails has changed nothing, and
    keeps no other back. A wave with too many failures is the last. Nothing is sent to a store that
    is up to date. How far it has come is in the table `stores`: a call that was killed is repeated,
    and goes on. Concurrent calls migrate a store one after the other.

    With canaries, call it with `wave="canaries"` before you migrate the application's tables of the
    shared store, and again after that.

    Args:
        owner_url: URL with the role that owns the database with the control plane, and the stores.
        application: the environments of the application's tenant-owned tables.
        installation: as for `migrate()`.
        patience: how long to wait for locks in each store; None: the defaults of `Patience`.
        waves: who first, how many, and when to stop; None: the defaults of `Waves`. Once the first
            wave of a migration has begun, they stay as they are.
        wave: `canaries`, the number of a wave, or `next`: that wave alone; None: all.
        verify: ask each database which migrations it has, as after one was restored from a backup.
            Otherwise the control plane's row says it. Schemas are always asked, all at once.

    Raises:
        ConfigurationError: the owner may not give stores' roles what they lack.
        DatabaseUnreachable: the server did not answer.
        InstallationElsewhere: the library's tables are in another schema.
        MigrationBlocked: the library's own tables were locked on every try.
        TenantUnknown, StoreRefused, WaveRefused, WaveUnknown: as for `store_migrations()`, and for
            the wave.
    """
    owner_url = hidden(owner_url)
    wanted, waves = installation or Installation(), waves or Waves()
    with connect(owner_url) as owner:
        there = replace(wanted, schema=schema_in_use(owner, wanted.schema))
        run = _Run(owner_url, tuple(application), wanted, there, patience or Patience())
        with run.turn(_PLANNED):
            stores = store_migrations(owner, application, schema=there.schema, waves=waves)
            chosen = None if wave is None else wave_of(wave, stores)
            save(owner, stores, application, schema=there.schema)
    if any(store.isolation is Isolation.SCHEMA for store in stores):
        run.patiently(run.admit, "the library")
    return _Upgrade(run, waves, stores, verify).waves_done(chosen)


@dataclass
class _Upgrade:
    """The waves of one call of `upgrade_stores()`."""

    run: _Run
    waves: Waves
    stores: Sequence[StoreMigration]
    verify: bool
    outcomes: dict[str, bool | str] = field(default_factory=dict)  # by store

    def waves_done(self, wave: int | None) -> UpgradedStores:
        """Migrates all waves, or one, and returns what came of it."""
        todo = self._todo()
        chosen = sorted(set(todo.values()) if wave is None else {wave} & set(todo.values()))
        halted = None
        with side_processes(self.waves.at_once, len(todo)) as in_processes:
            for each in chosen:
                stores = [store for store in self.stores if todo.get(store.name) == each]
                for store, outcome in zip(
                    stores, in_processes(self.run.upgrade, stores), strict=True
                ):
                    self._note(store.name, outcome)
                failed = sum(isinstance(self.outcomes[store.name], str) for store in stores)
                log.info(
                    "stores.wave_done",
                    extra={"wave": wave_name(each), "stores": len(stores), "failed": failed},
                )
                if failed > self.waves.bound(each) and each != max(todo.values()):
                    halted = wave_name(each)
                    break
        waiting = [name for name in todo if name not in self.outcomes]
        others = {*todo, *(store.name for store in self.stores if store.given)}
        done = self.outcomes.items()
        return UpgradedStores(
            migrated=tuple(sorted(name for name, outcome in done if outcome is True)),
            up_to_date=tuple(
                store.name
                for store in self.stores
                if store.name not in others or self.outcomes.get(store.name) is False
            ),
            left=tuple(StoreLeft(name, why) for name, why in done if isinstance(why, str)),
            given=tuple(store.name for store in self.stores if store.given),
            waiting=tuple(waiting),
            halted=halted,
        )

    def _todo(self) -> dict[str, int]:
        """Returns the waves of the stores that are sent anything, by name."""
        last = max((store.wave or 1 for store in self.stores), default=1)
        return {
            store.name: last if store.wave is None else store.wave
            for store in self.stores
            if not store.given
            and (store.is_behind or (self.verify and store.isolation is Isolation.DATABASE))
        }

    def _note(self, name: str, outcome: _Outcome) -> None:
        if isinstance(outcome, _Unreachable):
            raise DatabaseUnreachable(outcome.message)  # the same server has all the others
        self.outcomes[name] = outcome


@dataclass(frozen=True)
class _Unreachable:
    """The server does not answer."""

    message: str


# Whether a store had to be migrated, or why it could not be.
_Outcome = bool | str | _Unreachable


@dataclass(frozen=True)
class _Run:
    """What one call of `upgrade_stores()` does in each store."""

    owner_url: str
    application: tuple[MigrationEnvironment, ...]
    wanted: Installation
    there: Installation  # in the database with the control plane
    patience: Patience

    def upgrade(self, store: StoreMigration) -> _Outcome:
        """Migrates a store, and says in the control plane what came of it."""
        is_schema = store.isolation is Isolation.SCHEMA
        try:
            return self.schema(store.name) if is_schema else self.database(store.name)
        except DatabaseUnreachable as error:
            if is_schema or not answers(self.owner_url):
                return _Unreachable(error.message)
            reason = reason_at_store(error)  # a database may refuse connections by itself
        except Exception as error:  # a migration is the application's code
            reason = reason_of(error)
        with connect(self.owner_url) as owner:
            owner.execute(_FAILED.format(self._stores), [reason, store.name])
        return reason

    @property
    def _stores(self) -> sql.Identifier:
        return sql.Identifier(self.there.schema, "stores")

    def schema(self, name: str) -> bool:
        """Migrates a schema; returns False if another call has done so meanwhile."""
        with self.turn(name) as owner:
            if not schemas_behind(owner, [name], self.application):
                return False
            self.patiently(lambda: self._upgrade(name), name)
            return True

    def database(self, name: str) -> bool:
        """Migrates a database of this server; returns whether it lacked migrations."""
        at = database_stores.beside(self.owner_url, name)
        environments = (*LIBRARY, *self.application)
        behind = pending(at, environments, installation=self.wanted)
        if behind:
            migrate(
                at, application=self.application, installation=self.wanted, patience=self.patience
            )
        versions = revisions_at(at, environments, installation=self.wanted)
        with connect(self.owner_url) as owner:
            owner.execute(_DONE.format(self._stores), [Jsonb(versions), name])
        return bool(behind)

    def admit(self) -> None:
        """Gives stores' roles their rights on what the library's migrations have added."""
        with connect(self.owner_url) as owner, owner.transaction():
            owner.execute(SET_LOCK_TIMEOUT, [milliseconds(self.patience.lock_timeout)])
            schema_stores.admit(owner, self.there)

    def patiently(self, attempt: Callable[[], None], name: str) -> None:
        """Tries again while other transactions have the locks; raises `MigrationBlocked`."""
        for left in reversed(range(self.patience.tries)):
            try:
                return attempt()
            except Exception as error:
                if not is_blocked(error):
                    raise
            log.warning("migrations.blocked", extra={"store": name, "tries_left": left})
            if left:
                time.sleep(self.patience.pause.total_seconds())
        raise MigrationBlocked(
            f"other transactions had tables of {name} locked on "
            f"{number(self.patience.tries, 'try')} in a row."
        )

    def _upgrade(self, name: str) -> None:
        with owners_transaction(self.owner_url) as (connection, owner):
            owner.execute(SET_LOCK_TIMEOUT, [milliseconds(self.patience.lock_timeout)])
            schema_stores.upgrade(connection, owner, name, self.application, self.there)
            # With the migration or not at all, so that a call that is killed leaves no doubt.
            versions = {
                environment.name: revisions_in(owner, [name], environment)[name]
                for environment in self.application
            }
            owner.execute(_DONE.format(self._stores), [Jsonb(versions), name])

    @contextmanager
    def turn(self, name: str) -> Iterator[psycopg.Connection[Any]]:
        """Runs the block while no other call migrates this store."""
        with connect(self.owner_url) as owner, owner.transaction(force_rollback=True):
            owner.execute("set local idle_in_transaction_session_timeout = 0")
            owner.execute(SET_LOCK_TIMEOUT, [milliseconds(self.patience.turn)])
            # Rolled back: only its lock is needed.
            locks = sql.Identifier(self.there.schema, "locks")
            try:
                owner.execute(_TURN.format(locks), [f"migrations of {name}"])
            except psycopg.errors.LockNotAvailable:
                raise MigrationBlocked(
                    f"another call has been migrating {name} for {duration(self.patience.turn)}."
                ) from None
            yield owner
