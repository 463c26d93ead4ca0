"""Runs migrations as the database's owner, and checks whether a database has them all."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final

import psycopg
from alembic import command, context
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from psycopg import sql
from sqlalchemy import Connection, MetaData, create_engine
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.pool import NullPool

from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.migration_environment import LIBRARY, MigrationEnvironment
from temporal_tenancy.core.words import duration, number
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database_errors import (
    MigrationBlocked,
    MigrationsBehind,
    is_lock_held,
)
from temporal_tenancy.postgres.database_urls import database_url
from temporal_tenancy.postgres.hardening import harden as take_away
from temporal_tenancy.postgres.installation import ATTRIBUTE, PUBLIC, Installation, Roles
from temporal_tenancy.postgres.library_schema import (
    grant_schema,
    make_schema,
    search_only,
    searching,
    version_table,
)
from temporal_tenancy.postgres.lock_timeouts import milliseconds
from temporal_tenancy.postgres.locks import MAKE_TABLE
from temporal_tenancy.postgres.roles import (
    ensure_role,
    grant_database,
    limit_roles,
    password_of,
    refuse_other_roles,
    set_password,
)
from temporal_tenancy.postgres.row_security import hidden_rows_refused
from temporal_tenancy.postgres.schema_in_use import schema_in_use
from temporal_tenancy.postgres.secret_texts import hidden

COMMITS: Final = "commits"  # the attribute: whether a migration may leave the transaction
SET_LOCK_TIMEOUT: Final = "select set_config('lock_timeout', %s, true)"
# Fails if another call has created the table meanwhile.
_MAKE_NEW_TABLE: Final = MAKE_TABLE.replace("if not exists ", "")
_TURN: Final = """
    insert into locks (name) values ('migrations')
    on conflict (name) do update set name = excluded.name
"""
# The schemas, of those given, that have a version table.
_HAVING: Final = """
    select nspname::text
    from pg_class
    join pg_namespace on pg_namespace.oid = relnamespace
    where relname = %s and nspname = any(%s) and relkind in ('r', 'p')
    order by nspname
"""
_AT_ONCE: Final = 200  # schemas in one statement
_TURN_OF_ALL: Final = sql.Identifier("temporal_tenancy_first_migration")
# The sessions whose locks may have blocked a migration.
_HOLDERS: Final = """
    select distinct activity.pid, activity.usename
    from pg_locks as lock
    join pg_class on pg_class.oid = lock.relation
    join pg_stat_activity as activity on activity.pid = lock.pid
    where lock.granted
        and lock.database = (select oid from pg_database where datname = current_database())
        and pg_class.relnamespace in (
            select oid from pg_namespace where nspname in (%s, current_schema())
        )
        and pg_class.relkind in ('r', 'p') and pg_class.relname <> 'locks'
    order by activity.pid
    limit 5
"""

# The errors of creating an object while another session creates the same one; which of them the
# server raises depends on how far the other has come.
_MADE_MEANWHILE: Final = (
    psycopg.errors.DuplicateSchema,
    psycopg.errors.DuplicateTable,
    psycopg.errors.DuplicateObject,
    psycopg.errors.UniqueViolation,
    psycopg.errors.InternalError_,  # tuple concurrently updated
    psycopg.errors.DeadlockDetected,  # each alters roles that the other has altered
)

ROLE_TRIES: Final = 40
ROLE_PAUSE: Final = 0.05  # seconds between tries

# Alembic keeps its state in module globals, so a process runs one migration at a time.
_ALEMBIC: Final = threading.Lock()

# The second is the error of a role that may not use the library's schema, and so finds none.
_NOT_THE_OWNERS: Final = (psycopg.errors.InsufficientPrivilege, psycopg.errors.InvalidSchemaName)

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class Patience:
    """How long migrations wait for other transactions' locks."""

    lock_timeout: timedelta = timedelta(seconds=1)  # short: statements queue behind a waiting one
    tries: int = 30
    pause: timedelta = timedelta(seconds=2)  # between tries, so that queued statements can run
    turn: timedelta = timedelta(minutes=10)  # how long to wait for another call's migrations


@dataclass(frozen=True)
class Pending:
    """One environment whose migrations a database lacks."""

    environment: MigrationEnvironment
    revision: str | None  # the database's current revision; None: no migration has run
    needed: str  # the revision that the code needs

    def __str__(self) -> str:
        at = self.revision or "its beginning"
        return f"the {self.environment.name} is at {at}, and the code needs {self.needed}"


def migrate(
    owner_url: str,
    *,
    tenant_url: str | None = None,
    platform_url: str | None = None,
    relay_url: str | None = None,
    application: Sequence[MigrationEnvironment] = (),
    patience: Patience | None = None,
    installation: Installation | None = None,
    harden: bool = False,
    beside: bool = False,
) -> None:
    """Creates the runtime roles and runs all migrations: the library's, then `application`'s.

    All of it is one transaction: a call that fails has changed nothing. Safe to repeat; concurrent
    calls run one after the other. A migration that waits for a table's lock blocks every later
    statement on the table, so it gives up soon and tries again.

    A role that exists is not altered, unless the library made it. It gets the rights that its name
    in `installation` stands for; nothing is revoked from it.

    Args:
        owner_url: URL with the role that owns the database; it must be able to create the roles
            that do not exist.
        tenant_url: URL with the tenant role; its password is that of a role the library makes.
            None: the role keeps its password, and a missing role is created without login, since
            policies name it.
        platform_url: URL with the platform role; likewise.
        relay_url: URL with the relay role; likewise.
        application: the environments of the application's tenant-owned tables. A migration that
            leaves the transaction, by Alembic's `autocommit_block()`, commits what came before.
        patience: how long to wait for locks; None: the defaults of `Patience`.
        installation: the schema of the library's tables and the names of the roles; None: those of
            `Installation()`. A database that has the tables in `public`, as earlier releases made
            them, keeps them there; `move()` moves them.
        harden: also take away the rights that every role of the server has in this database; see
            `temporal_tenancy.postgres.hardening`.
        beside: create a second installation if the tables are in another schema already, such as
            that of another application.

    Raises:
        ConfigurationError: a URL has the wrong role or no password, the owner may not create or
            give what is missing, or the database was migrated with other roles or by a later
            release.
        DatabaseUnreachable: the server did not answer, or refused the owner.
        ExcessRights: a runtime role exists and has more rights than it needs.
        InstallationElsewhere: the tables are in another schema, and `beside` is not set.
        MigrationBlocked: other transactions held the needed locks on every try.
        RowsHidden: a migration reads or changes rows of a protected table without `repairing()`.
    """
    owner_url = hidden(owner_url)
    tenant_url, platform_url, relay_url = map(hidden, (tenant_url, platform_url, relay_url))
    patience = patience or Patience()
    wanted = installation or Installation()
    run = _Run(
        owner_url,
        wanted,
        passwords_of(wanted.roles, tenant_url, platform_url, relay_url),
        (*LIBRARY, *application),
        patience,
        harden,
        beside,
    )
    tries = patience.tries
    others = ROLE_TRIES
    while True:
        try:
            with _as_owner(owner_url), _turn(owner_url, patience, wanted.schema, beside) as alone:
                _migrate(run, alone)
        except _MadeMeanwhile as error:
            others -= 1
            if not others:
                raise error.cause from None
            time.sleep(ROLE_PAUSE)
        except _Blocked as error:
            tries -= 1
            log.warning(
                "migrations.blocked",
                extra={"environment": error.environment.name, "tries_left": tries},
            )
            if not tries:
                raise MigrationBlocked(
                    f"the {error.environment.name} could not be migrated: other transactions had "
                    f"its tables locked on {number(patience.tries, 'try')} in a row."
                    f"{_holders(owner_url, wanted.schema)} "
                    "Try again when they have ended. Nothing has been changed."
                ) from error.__cause__
            time.sleep(patience.pause.total_seconds())
        else:
            return


@contextmanager
def _as_owner(owner_url: str) -> Iterator[None]:
    """Raises `ConfigurationError` for what the role of `owner_url` may not do."""
    try:
        yield
    except (*_NOT_THE_OWNERS, ProgrammingError) as error:
        cause = error.orig if isinstance(error, ProgrammingError) else error
        if not isinstance(cause, _NOT_THE_OWNERS):
            raise
        target = database_url(owner_url)
        raise ConfigurationError(
            f"{target.username} may not migrate {target.database}: {cause.diag.message_primary}. "
            "Give the URL of the database's owner."
        ) from error


def pending(
    url: str,
    environments: Sequence[MigrationEnvironment],
    *,
    installation: Installation | None = None,
    beside: bool = False,
) -> list[Pending]:
    """Returns the `environments` whose migrations the database at `url` lacks.

    Every runtime role can check this. A database that is ahead of the code, as during a release,
    does not count as behind. `installation` and `beside` are as for `migrate()`. Raises
    `DatabaseUnreachable` and `InstallationElsewhere`.
    """
    url = hidden(url)
    wanted = installation or Installation()
    with connect(url) as connection:
        schema = schema_in_use(connection, wanted.schema, beside=beside)
        found = (_pending(connection, environment, schema) for environment in environments)
        return [behind for behind in found if behind is not None]


def revisions_at(
    url: str,
    environments: Sequence[MigrationEnvironment],
    *,
    installation: Installation | None = None,
) -> dict[str, str]:
    """Returns the last migration of each of `environments` that the database at `url` has.

    By the environment's name; one of which it has none is left out. Every runtime role can ask.
    Raises `DatabaseUnreachable` and `InstallationElsewhere`.
    """
    with connect(url) as connection:
        schema = schema_in_use(connection, (installation or Installation()).schema)
        found = {each.name: _revision(connection, each, schema) for each in environments}
    return {name: revision for name, revision in found.items() if revision is not None}


def refuse_pending(
    url: str,
    environments: Sequence[MigrationEnvironment],
    *,
    installation: Installation | None = None,
) -> None:
    """Raises `MigrationsBehind` if the database at `url` lacks migrations that the code needs.

    Also raises `InstallationElsewhere` if the library's tables are in another schema.
    """
    url = hidden(url)
    behind = pending(url, environments, installation=installation)
    if behind:
        raise MigrationsBehind(f"{'; '.join(map(str, behind))}. Migrate the database as its owner.")


def run_migrations(metadata: MetaData) -> None:
    """Runs an environment's migrations; its env.py calls this with its models' `metadata`.

    A statement that reads or changes rows of a protected table fails, but in `repairing()`: its
    FORCE hides them from the owner.

    Raises:
        ConfigurationError: Alembic's own command runs it, rather than `migrate()`.
        RowsHidden: a migration needs rows that it does not see.
    """
    connection = context.config.attributes.get("connection")
    if not isinstance(connection, Connection):
        raise ConfigurationError(
            "these migrations do not run with Alembic's own command. Call "
            "temporal_tenancy.postgres.migrations.migrate(), or add the library's branch to your "
            "own environment: see temporal_tenancy.postgres.branch."
        )
    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table=context.config.get_main_option("version_table") or "",
        version_table_schema=context.config.get_main_option("version_table_schema"),
        compare_server_default=True,
    )
    # Alembic leaves a transaction alone that it finds, so a migration's autocommit_block() would
    # have none to commit.
    if context.config.attributes.get(COMMITS, True):
        context.get_context()._transaction = connection.get_transaction()
    with context.begin_transaction(), hidden_rows_refused(connection):
        context.run_migrations()


def upgrade_schema(
    connection: Connection,
    owner: psycopg.Connection[Any],
    schema: str,
    environments: Sequence[MigrationEnvironment],
    installation: Installation,
    *,
    commits: bool = True,
) -> None:
    """Runs the application's migrations that `schema` lacks, for the tables of one store.

    The versions stand in tables of that schema. Unqualified names mean the objects in it alone: an
    object of another schema that has the same name, as in `public`, is never found instead. That
    lasts for the connection, since a migration may commit in between.

    Args:
        connection: that of `owners_transaction()`.
        owner: likewise.
        schema: the schema of the store.
        environments: those of the application's tenant-owned tables.
        installation: where the library's tables are; its tenant role is the store's.
        commits: whether a migration may leave the transaction; False: it fails instead.
    """
    search_only(owner, schema)
    for environment in environments:
        config = alembic_config(environment, connection, installation, schema)
        config.attributes[COMMITS] = commits
        with _ALEMBIC:
            command.upgrade(config, "head")
        grant_version(owner, environment, installation)


def schemas_behind(
    connection: psycopg.Connection[Any],
    schemas: Sequence[str],
    environments: Sequence[MigrationEnvironment],
) -> list[str]:
    """Returns those of the stores' `schemas` that lack migrations of `environments`.

    It asks about many schemas in one statement. As in `pending()`, one that is ahead of the code is
    not behind.
    """
    behind: set[str] = set()
    for environment in environments:
        revisions = revisions_in(connection, schemas, environment)
        behind |= {schema for schema in schemas if lacks(environment, revisions.get(schema))}
    return [schema for schema in schemas if schema in behind]


def lacks(environment: MigrationEnvironment, revision: str | None) -> bool:
    """Whether the code has migrations after `revision`; one that it does not know is ahead."""
    return _lacks(ScriptDirectory.from_config(alembic_config(environment, None)), revision)


def revisions_in(
    connection: psycopg.Connection[Any],
    schemas: Sequence[str],
    environment: MigrationEnvironment,
) -> dict[str, str]:
    """Returns the current revision by schema, without those that have none."""
    table = environment.version_table
    having = connection.execute(_HAVING, [table, list(schemas)]).fetchall()
    found: dict[str, str] = {}
    for first in range(0, len(having), _AT_ONCE):
        each = [
            sql.SQL("select {}, version_num from {}").format(
                sql.Literal(schema), sql.Identifier(schema, table)
            )
            for (schema,) in having[first : first + _AT_ONCE]
        ]
        found.update(connection.execute(sql.SQL(" union all ").join(each)).fetchall())
    return found


def alembic_config(
    environment: MigrationEnvironment,
    connection: Connection | None,
    installation: Installation | None = None,
    schema: str | None = None,
) -> Config:
    """Returns Alembic's settings for `environment`, without a configuration file.

    `installation` says where the library's tables are; None: in `public`, as in earlier releases.
    `schema` is that of an application's version table; None: the first of the search_path.
    """
    there = installation or Installation(PUBLIC)
    config = Config(attributes={"connection": connection, ATTRIBUTE: there})
    if environment in LIBRARY:
        schema = there.schema
    if schema is not None:
        config.set_main_option("version_table_schema", schema)
    config.set_main_option("script_location", environment.script_location)
    config.set_main_option("version_table", environment.version_table)
    return config


@dataclass(frozen=True)
class _Run:
    """What one call of `migrate()` does."""

    owner_url: str
    installation: Installation
    passwords: Mapping[str, str | None]  # by role
    environments: Sequence[MigrationEnvironment]
    patience: Patience
    harden: bool
    beside: bool


class _MadeMeanwhile(Exception):
    """Another session has created or altered the same role or table."""

    def __init__(self, cause: psycopg.Error) -> None:
        self.cause = cause


class _Blocked(Exception):
    """Another transaction held a lock that a migration needs."""

    def __init__(self, environment: MigrationEnvironment) -> None:
        self.environment = environment


def _migrate(run: _Run, alone: bool) -> None:
    """Runs everything in one transaction; `alone`: no other call migrates."""
    roles = run.installation.roles
    with owners_transaction(run.owner_url) as (connection, owner):
        owner.execute(SET_LOCK_TIMEOUT, [milliseconds(run.patience.turn)])
        if not alone:
            with _made_meanwhile(run.patience):
                _be_the_first(owner)
        # A `move()` may have had the turn before, or the first call with another schema.
        schema = schema_in_use(owner, run.installation.schema, beside=run.beside)
        there = replace(run.installation, schema=schema)
        # A role is the server's, so the migration of another database may be creating it.
        with _made_meanwhile(run.patience):
            make_schema(owner, schema)
            if not alone:
                with searching(owner, schema):
                    owner.execute(_MAKE_NEW_TABLE)
            prepare_roles(owner, there, run.passwords)
        for environment in run.environments:
            owner.execute(SET_LOCK_TIMEOUT, [milliseconds(run.patience.lock_timeout)])
            try:
                # The library's versions name no schema: they have also run in `public`.
                place = searching(owner, schema) if environment in LIBRARY else nullcontext()
                with place, _ALEMBIC:
                    command.upgrade(alembic_config(environment, connection, there), "head")
                grant_version(owner, environment, there)
            except (OperationalError, psycopg.OperationalError) as error:
                if not is_blocked(error):
                    raise
                raise _Blocked(environment) from error
            except CommandError as error:
                revision = _revision(owner, environment, schema)
                if revision is None or getattr(error.__cause__, "argument", None) != revision:
                    raise
                raise ConfigurationError(
                    f"the {environment.name} is at {revision}, which this release does not know: "
                    "a later one has migrated. Nothing was changed. Migrate with that one; its "
                    "migrations do not keep this one from running."
                ) from error
        owner.execute(SET_LOCK_TIMEOUT, [milliseconds(run.patience.turn)])
        with _made_meanwhile(run.patience):
            if run.harden:
                take_away(owner, roles)
            set_up_roles(owner, there, run.passwords)


def _be_the_first(owner: psycopg.Connection[Any]) -> None:
    """Waits until no other call makes the first tables of this database, in whichever schema.

    There is no row to lock yet. The name of a schema that is not committed makes others wait who
    create it, and it is gone again at once.
    """
    row = owner.execute("select has_database_privilege(current_database(), 'CREATE')").fetchone()
    if row == (True,):  # otherwise somebody made the schema, and its name is the only turn
        owner.execute(sql.SQL("create schema {}").format(_TURN_OF_ALL))
        owner.execute(sql.SQL("drop schema {}").format(_TURN_OF_ALL))


@contextmanager
def owners_transaction(owner_url: str) -> Iterator[tuple[Connection, psycopg.Connection[Any]]]:
    """Opens the owner's transaction, for Alembic and for the driver; an error rolls it back."""
    with connect(owner_url) as owner:
        owner.autocommit = False
        engine = create_engine(
            database_url(owner_url),
            poolclass=NullPool,
            hide_parameters=True,
            creator=lambda: owner,
        )
        with engine.connect() as connection:
            connection.begin()
            yield connection, owner
            connection.commit()  # that transaction, or the one after a migration's own commit


@contextmanager
def _made_meanwhile(patience: Patience) -> Iterator[None]:
    """Raises `_MadeMeanwhile` where another session has made what the block makes."""
    try:
        yield
    except psycopg.errors.LockNotAvailable:
        raise _other_call(patience) from None
    except _MADE_MEANWHILE as error:
        raise _MadeMeanwhile(error) from None


def passwords_of(
    roles: Roles, tenant_url: str | None, platform_url: str | None, relay_url: str | None
) -> dict[str, str | None]:
    """Returns the passwords of the URLs by role; None where there is no URL.

    Raises `ConfigurationError` for a URL with another role, or that is not a PostgreSQL URL.
    """
    urls = (tenant_url, platform_url, relay_url)
    return {
        role: None if url is None else password_of(url, role)
        for role, url in zip(roles, urls, strict=True)
    }


def prepare_roles(
    owner: psycopg.Connection[Any],
    installation: Installation,
    passwords: Mapping[str, str | None],
) -> None:
    """Creates the roles that are missing, and checks the others, before migrations name them."""
    refuse_other_roles(owner, installation)
    for role in installation.roles:
        ensure_role(owner, role, passwords[role])


def set_up_roles(
    owner: psycopg.Connection[Any],
    installation: Installation,
    passwords: Mapping[str, str | None],
) -> None:
    """Gives the roles their rights in the database, their limits and their passwords."""
    grant_database(owner, installation.roles)
    grant_schema(owner, installation.schema, list(installation.roles))
    limit_roles(owner, installation.roles)
    _set_passwords(owner, passwords)


def _set_passwords(owner: psycopg.Connection[Any], passwords: Mapping[str, str | None]) -> None:
    """Sets the passwords last: another database's migration that sets them waits for this one."""
    for role, password in passwords.items():
        for left in reversed(range(ROLE_TRIES)):
            try:
                with owner.transaction():
                    set_password(owner, role, password)
            except psycopg.errors.InternalError_:  # tuple concurrently updated
                if not left:
                    raise
                time.sleep(ROLE_PAUSE)
            else:
                break


@contextmanager
def _turn(owner_url: str, patience: Patience, schema: str, beside: bool) -> Iterator[bool]:
    """Runs the block while no other call migrates, under a row lock no runtime role can hold long.

    Yields False before the first migration: the table `locks` is missing, and the block must create
    it, which one transaction at a time can.
    """
    with connect(owner_url) as connection, connection.transaction(force_rollback=True):
        search_only(connection, schema_in_use(connection, schema, beside=beside))
        if connection.execute("select to_regclass('locks')").fetchone() == (None,):
            yield False
            return
        connection.execute("set local idle_in_transaction_session_timeout = 0")
        connection.execute(SET_LOCK_TIMEOUT, [milliseconds(patience.turn)])
        try:
            connection.execute(_TURN)  # rolled back: only its lock is needed
        except psycopg.errors.LockNotAvailable:
            raise _other_call(patience) from None
        yield True


def _other_call(patience: Patience) -> MigrationBlocked:
    return MigrationBlocked(
        f"another call has been migrating this database for {duration(patience.turn)}. "
        "Wait until it ends, or end it, and try again."
    )


def is_blocked(error: BaseException) -> bool:
    """Whether another transaction had a lock that a migration needs, so that it may try again."""
    cause = error.orig if isinstance(error, OperationalError) else error
    return is_lock_held(error) or isinstance(cause, psycopg.errors.DeadlockDetected)


def grant_version(
    owner: psycopg.Connection[Any],
    environment: MigrationEnvironment,
    installation: Installation,
) -> None:
    """Lets the runtime roles read an environment's revision."""
    owner.execute(
        sql.SQL("grant select on {} to {}").format(
            version_table(environment, installation.schema),
            sql.SQL(", ").join(map(sql.Identifier, installation.roles)),
        )
    )


def _holders(owner_url: str, schema: str) -> str:
    """A sentence that names the sessions with tables locked now; empty if there are none."""
    with connect(owner_url) as owner:
        sessions = owner.execute(_HOLDERS, [schema]).fetchall()
    names = ", ".join(f"process {pid} of {role}" for pid, role in sessions)
    return f" Locks are held by {names}." if names else ""


def _pending(
    connection: psycopg.Connection[Any], environment: MigrationEnvironment, schema: str
) -> Pending | None:
    scripts = ScriptDirectory.from_config(alembic_config(environment, None))
    needed = scripts.get_current_head() or ""
    revision = _revision(connection, environment, schema)
    return Pending(environment, revision, needed) if _lacks(scripts, revision) else None


def _revision(
    connection: psycopg.Connection[Any], environment: MigrationEnvironment, schema: str
) -> str | None:
    row = None
    # Without the right to read it, migrate() has not come to its end.
    with suppress(psycopg.errors.UndefinedTable, psycopg.errors.InsufficientPrivilege):
        row = connection.execute(
            sql.SQL("select version_num from {}").format(version_table(environment, schema))
        ).fetchone()
    return None if row is None else str(row[0])


def _lacks(scripts: ScriptDirectory, revision: str | None) -> bool:
    if revision == (scripts.get_current_head() or ""):
        return False
    return revision is None or _known(scripts, revision)


def _known(scripts: ScriptDirectory, revision: str) -> bool:
    try:
        return scripts.get_revision(revision) is not None
    except CommandError:
        return False
