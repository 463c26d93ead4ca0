"""Prepares stores before anybody signs up, and removes them, as the databases' owner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from temporal_tenancy.core.display import printable
from temporal_tenancy.core.migration_environment import MigrationEnvironment
from temporal_tenancy.core.stores import Isolation
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database_errors import DatabaseUnreachable
from temporal_tenancy.postgres.installation import Installation
from temporal_tenancy.postgres.revisions import read_lineage
from temporal_tenancy.postgres.schema_in_use import schema_in_use
from temporal_tenancy.postgres.secret_texts import hidden
from temporal_tenancy.stores import _database_stores as database_stores
from temporal_tenancy.stores import _schema_stores as schema_stores
from temporal_tenancy.stores._names import new_name, require_name, require_region, unknown_store
from temporal_tenancy.stores.errors import (
    StoreExists,
    StoreInUse,
    StorePreparationFailed,
    StoreRefused,
    reason_of,
)
from temporal_tenancy.stores.secrets import (
    PLATFORM,
    RELAY,
    TENANT,
    WritableConnectionSecrets,
    secret_name,
)
from temporal_tenancy.stores.waves import environments_of

_FIND: Final = sql.SQL(
    "select isolation, state, region from {stores} where name = %(name)s for update"
)
_INSERT: Final = sql.SQL(
    "insert into {stores} (name, isolation, schema, role, secret, region, state, capacity) "
    "values (%(name)s, %(isolation)s, %(schema)s, %(schema)s, %(secret)s, %(region)s, "
    "'preparing', 1)"
)
_READY: Final = sql.SQL(
    "update {stores} set state = 'ready', state_since = now(), versions = %(versions)s, "
    "versions_at = now() "
    "where name = %(name)s and state = 'preparing'"
)
_TENANTS: Final = sql.SQL("select count(*) from {tenants} where store = %(name)s")
_DELETE: Final = sql.SQL("delete from {stores} where name = %(name)s")


@dataclass(frozen=True)
class Preparation:
    """How stores are made: whose migrations, with which roles, and where connections are kept."""

    owner_url: str = field(repr=False)  # of the database with the control plane
    application: Sequence[MigrationEnvironment] = ()  # of the application's tenant-owned tables
    installation: Installation = field(default_factory=Installation)
    # The runtime roles' URLs, whose passwords they have in a store's database too.
    tenant_url: str | None = field(default=None, repr=False)
    platform_url: str | None = field(default=None, repr=False)
    relay_url: str | None = field(default=None, repr=False)
    secrets: WritableConnectionSecrets | None = None  # None: no stores in other databases

    def prepare(
        self,
        isolation: Isolation,
        *,
        name: str | None = None,
        region: str | None = None,
        at: str | None = None,
    ) -> str:
        """Makes a store without a tenant, and returns its name.

        A call that fails leaves the store `preparing`: call it again with that name, or `remove()`
        it. A schema store is one transaction; a database is not, and goes on where it was.

        Args:
            isolation: `SCHEMA` or `DATABASE`.
            name: its name; None: a random one. That of a store which is being prepared continues.
            region: where it is, for the placement of tenants.
            at: the owner's URL of an empty database for it; None: creates one beside the control
                plane's.

        Raises:
            StoreRefused: the store cannot be made like that.
            StoreExists: the name, the schema or the database is taken.
            StorePreparationFailed: a migration failed, or the owner lacks a right.
            ConfigurationError: `at` is no PostgreSQL URL.
            DatabaseUnreachable: a server did not answer.
        """
        isolation = Isolation(isolation)
        self._require(isolation, at)
        require_region(region)
        name = new_name() if name is None else name
        require_name(name)
        at = hidden(at)
        if at is not None:
            _require_answer(at)  # before there is a row of a store that cannot be
        with connect(self.owner_url) as owner:
            there = self._there(owner)
            is_new = self._register(owner, there, name, isolation, region)
            try:
                if isolation is Isolation.SCHEMA:
                    schema_stores.make(self.owner_url, name, self.application, there)
                else:
                    self._make_database(name, at)
            except StoreExists:
                # What is there is somebody else's, and this call has made nothing.
                if is_new:
                    owner.execute(_statement(_DELETE, there), {"name": name})
                raise
            except Exception as error:  # a migration is the application's code
                raise _failed(name, error) from error
            versions = {
                each.name: read_lineage(each).newest
                for each in environments_of(isolation, self.application)
            }
            owner.execute(_statement(_READY, there), {"name": name, "versions": Jsonb(versions)})
        return name

    def begun(self, name: str) -> Isolation | None:
        """Returns the isolation of the store `name`, prepared or not; None if there is none.

        Raises `DatabaseUnreachable` if the server does not answer.
        """
        with connect(self.owner_url) as owner:
            find = _statement(_FIND, self._there(owner))
            found = owner.execute(find, {"name": name}).fetchone()
        return None if found is None else Isolation(found[0])

    def remove(self, name: str) -> None:
        """Drops a store that has no tenant: its schema and role, or the database made for it.

        A database that was given is left as it is. Safe to repeat after an error.

        Raises:
            StoreUnknown: there is no such store.
            StoreInUse: it has tenants.
            StorePreparationFailed: it could not be dropped.
        """
        with connect(self.owner_url) as owner:
            there = self._there(owner)
            with owner.transaction():
                found = owner.execute(_statement(_FIND, there), {"name": name}).fetchone()
                if found is None:
                    raise unknown_store(name)
                [(tenants,)] = owner.execute(_statement(_TENANTS, there), {"name": name}).fetchall()
                if tenants:
                    raise StoreInUse(
                        f"the store {name} has a tenant, whose rows would be lost. Move the tenant "
                        "first."
                    )
                try:
                    if found[0] == Isolation.SCHEMA:
                        schema_stores.drop(owner, name)
                except psycopg.Error as error:
                    raise _failed(name, error, "removed") from error
                if found[0] == Isolation.DATABASE and self.secrets is None:
                    raise StoreRefused(NO_SECRETS)
                owner.execute(_statement(_DELETE, there), {"name": name})
            if found[0] == Isolation.DATABASE:
                try:
                    database_stores.drop(owner, name)
                except psycopg.Error as error:
                    self._register(owner, there, name, Isolation.DATABASE, found[2])
                    raise _failed(name, error, "removed") from error
                for role in (TENANT, PLATFORM, RELAY):
                    if self.secrets is not None:
                        self.secrets.remove(secret_name(name, role))

    def _require(self, isolation: Isolation, at: str | None) -> None:
        if isolation is Isolation.SHARED:
            raise StoreRefused(
                "the shared store is the process's own database, and needs no preparation. Choose "
                f"{Isolation.SCHEMA} or {Isolation.DATABASE}."
            )
        if isolation is Isolation.SCHEMA:
            if at is not None:
                raise StoreRefused(
                    "a schema is made in the process's own database. Leave the URL out, or choose "
                    f"{Isolation.DATABASE}."
                )
            return
        if self.secrets is None:
            raise StoreRefused(NO_SECRETS)
        if self.tenant_url is None or self.platform_url is None:
            raise StoreRefused(
                "a store's database is reached with the logins of the runtime roles. Give the "
                "URLs of the tenants' and the platform's role."
            )

    def _there(self, owner: psycopg.Connection[Any]) -> Installation:
        schema = schema_in_use(owner, self.installation.schema)
        return replace(self.installation, schema=schema)

    def _register(
        self,
        owner: psycopg.Connection[Any],
        there: Installation,
        name: str,
        isolation: Isolation,
        region: str | None,
    ) -> bool:
        """Writes the row and returns True, or finds that of a call that did not come to its end."""
        in_schema = isolation is Isolation.SCHEMA
        values = {
            "name": name,
            "isolation": isolation.value,
            "schema": name if in_schema else None,
            "secret": None if in_schema else name,
            "region": region,
        }
        with owner.transaction():
            found = owner.execute(_statement(_FIND, there), values).fetchone()
            if found is None:
                owner.execute(_statement(_INSERT, there), values)
            elif found[1] != "preparing":
                raise StoreExists(
                    f"there is already a store {name}, and it is {found[1]}. Choose another name."
                )
            elif found[0] != isolation:
                raise StoreRefused(
                    f"the store {name} is being prepared as a {found[0]}. Go on with that, or "
                    "remove it."
                )
            elif region is not None and region != found[2]:
                raise StoreRefused(
                    f"the store {name} is being prepared in {printable(found[2] or 'no region')}. "
                    "Go on without a region, or remove it."
                )
        return found is None

    def _make_database(self, name: str, at: str | None) -> None:
        assert self.secrets is not None
        owner_url = database_stores.make(
            self.owner_url,
            name,
            at,
            tenant_url=self.tenant_url,
            platform_url=self.platform_url,
            relay_url=self.relay_url,
            application=self.application,
            installation=self.installation,
        )
        urls = {TENANT: self.tenant_url, PLATFORM: self.platform_url, RELAY: self.relay_url}
        for role, url in urls.items():
            if url is not None:
                there = database_stores.login_at(url, owner_url)
                self.secrets.put(secret_name(name, role), there)


NO_SECRETS: Final = (
    "the connection of a store in a database of its own is kept in a secret store, and none is "
    "set. Give the application one, such as a folder."
)


def _require_answer(at: str) -> None:
    try:
        with connect(at):
            pass
    except DatabaseUnreachable as error:
        error.of_store = True
        raise


def _statement(statement: sql.SQL, there: Installation) -> sql.Composed:
    return statement.format(
        stores=sql.Identifier(there.schema, "stores"),
        tenants=sql.Identifier(there.schema, "tenants"),
    )


def _failed(name: str, error: Exception, what: str = "prepared") -> StorePreparationFailed:
    ending = "It stays preparing: prepare it again, or remove it." if what == "prepared" else ""
    return StorePreparationFailed(
        f"the store {name} could not be {what}: {reason_of(error)}. {ending}".rstrip()
    )
