"""Runs the migrations that stores lack, each store by itself, as the databases' owner."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import psycopg
from psycopg import sql

from temporal_tenancy.core.migration_environment import LIBRARY, MigrationEnvironment
from temporal_tenancy.core.stores import Isolation
from temporal_tenancy.core.words import number
from temporal_tenancy.postgres.connections import connect
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
    schemas_behind,
)
from temporal_tenancy.postgres.schema_in_use import schema_in_use
from temporal_tenancy.postgres.secret_texts import hidden
from temporal_tenancy.stores import _database_stores as database_stores
from temporal_tenancy.stores import _schema_stores as schema_stores
from temporal_tenancy.stores.errors import reason_of

# One that is being prepared gets its migrations when that goes on.
_STORES: Final = sql.SQL("select name, isolation from {} where state <> 'preparing' order by name")
_TURN: Final = sql.SQL(
    "insert into {} (name) values (%s) on conflict (name) do update set name = excluded.name"
)

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


def upgrade_stores(
    owner_url: str,
    *,
    application: Sequence[MigrationEnvironment] = (),
    installation: Installation | None = None,
    patience: Patience | None = None,
) -> UpgradedStores:
    """Runs the migrations that prepared stores lack; call it after `migrate()`.

    Each schema is one transaction, and each database too: one that fails has changed nothing, and
    keeps no other back. Nothing is sent to a schema that is up to date. Safe to repeat; concurrent
    calls migrate a store one after the other.

    Args:
        owner_url: URL with the role that owns the database with the control plane, and the stores.
        application: the environments of the application's tenant-owned tables.
        installation: as for `migrate()`.
        patience: how long to wait for locks in each store; None: the defaults of `Patience`.

    Raises:
        ConfigurationError: the owner may not give stores' roles what they lack.
        DatabaseUnreachable: the server did not answer.
        InstallationElsewhere: the library's tables are in another schema.
        MigrationBlocked: the library's own tables were locked on every try.
    """
    owner_url = hidden(owner_url)
    wanted = installation or Installation()
    with connect(owner_url) as owner:
        there = replace(wanted, schema=schema_in_use(owner, wanted.schema))
        stores = owner.execute(_STORES.format(sql.Identifier(there.schema, "stores"))).fetchall()
        schemas = [name for name, isolation in stores if isolation == Isolation.SCHEMA]
        databases = [name for name, isolation in stores if isolation == Isolation.DATABASE]
        behind = schemas_behind(owner, schemas, application)
        made = database_stores.made_here(owner, databases)
    run = _Run(owner_url, application, wanted, there, patience or Patience())
    if schemas:
        run.patiently(run.admit, "the library")
    done = [run.outcome(name, run.schema) for name in behind]
    done += [run.outcome(name, run.database) for name in made]
    changed = {name for name, outcome in done if outcome is True}
    left = [StoreLeft(name, outcome) for name, outcome in done if isinstance(outcome, str)]
    others = changed.union((store.name for store in left), set(databases) - set(made))
    return UpgradedStores(
        migrated=tuple(sorted(changed)),
        up_to_date=tuple(name for name, _ in stores if name not in others),
        left=tuple(left),
        given=tuple(name for name in databases if name not in made),
    )


@dataclass(frozen=True)
class _Run:
    """What one call of `upgrade_stores()` does."""

    owner_url: str
    application: Sequence[MigrationEnvironment]
    wanted: Installation
    there: Installation  # in the database with the control plane
    patience: Patience

    def outcome(self, name: str, upgrade: Callable[[str], bool]) -> tuple[str, bool | str]:
        """Returns the store with whether it had to be migrated, or why it could not be."""
        try:
            return name, upgrade(name)
        except DatabaseUnreachable:
            raise  # all of them are on this server
        except Exception as error:  # a migration is the application's code
            return name, reason_of(error)

    def schema(self, name: str) -> bool:
        """Migrates a schema; returns False if another call has done so meanwhile."""
        with self._turn(name) as owner:
            if not schemas_behind(owner, [name], self.application):
                return False
            self.patiently(lambda: self._upgrade(name), name)
            return True

    def database(self, name: str) -> bool:
        """Migrates a database of this server; returns whether it lacked migrations."""
        at = database_stores.beside(self.owner_url, name)
        if not pending(at, (*LIBRARY, *self.application), installation=self.wanted):
            return False
        migrate(at, application=self.application, installation=self.wanted, patience=self.patience)
        return True

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

    @contextmanager
    def _turn(self, name: str) -> Iterator[psycopg.Connection[Any]]:
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
                    f"another call has been migrating {name} for {self.patience.turn} (h:mm:ss)."
                ) from None
            yield owner
