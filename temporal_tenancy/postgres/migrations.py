"""Runs migrations as the database's owner, and checks whether a database has them all."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import psycopg
from alembic import command, context
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from psycopg import sql
from sqlalchemy import Connection, MetaData, create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.migration_environment import LIBRARY, MigrationEnvironment
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database import database_url
from temporal_tenancy.postgres.database_errors import (
    MigrationBlocked,
    MigrationsBehind,
    is_lock_held,
)
from temporal_tenancy.postgres.lock_timeouts import milliseconds
from temporal_tenancy.postgres.locks import MAKE_TABLE
from temporal_tenancy.postgres.roles import (
    PLATFORM_ROLE,
    RELAY_ROLE,
    TENANT_ROLE,
    ensure_role,
    grant_database,
    limit_roles,
    password_of,
)

_SET_LOCK_TIMEOUT: Final = "select set_config('lock_timeout', %s, true)"
_TURN: Final = """
    insert into locks (name) values ('migrations')
    on conflict (name) do update set name = excluded.name
"""
# The sessions whose locks may have blocked a migration.
_HOLDERS: Final = """
    select distinct activity.pid, activity.usename
    from pg_locks as lock
    join pg_class on pg_class.oid = lock.relation
    join pg_stat_activity as activity on activity.pid = lock.pid
    where lock.granted
        and lock.database = (select oid from pg_database where datname = current_database())
        and pg_class.relnamespace = current_schema()::regnamespace
        and pg_class.relkind in ('r', 'p') and pg_class.relname <> 'locks'
    order by activity.pid
    limit 5
"""

# The errors of creating an object while another session creates the same one; which of them the
# server raises depends on how far the other has come.
_MADE_MEANWHILE: Final = (
    psycopg.errors.DuplicateTable,
    psycopg.errors.DuplicateObject,
    psycopg.errors.UniqueViolation,
)

ROLE_TRIES: Final = 40
ROLE_PAUSE: Final = 0.05  # seconds between tries

# Alembic keeps its state in module globals, so a process runs one migration at a time.
_ALEMBIC: Final = threading.Lock()

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
) -> None:
    """Creates the runtime roles and runs all migrations: the library's, then `application`'s.

    Safe to repeat; concurrent calls run one after the other. A migration that waits for a table's
    lock blocks every later statement on the table, so it gives up soon and tries again.

    Args:
        owner_url: URL with the role that owns the database; it must be able to create roles.
        tenant_url: URL with `tenancy_tenant`; sets that role's password. None: the role keeps its
            password, and a new one is created without login, since policies name it.
        platform_url: URL with `tenancy_platform`; like `tenant_url`.
        relay_url: URL with `tenancy_relay`; like `tenant_url`.
        application: the environments of the application's tenant-owned tables.
        patience: how long to wait for locks; None: the defaults of `Patience`.

    Raises:
        ConfigurationError: a URL has the wrong role or no password, or the owner may not create
            roles.
        DatabaseUnreachable: the server did not answer, or refused the owner.
        ExcessRights: a runtime role exists and has more rights than it needs.
        MigrationBlocked: other transactions held the needed locks on every try.
    """
    patience = patience or Patience()
    urls = {TENANT_ROLE: tenant_url, PLATFORM_ROLE: platform_url, RELAY_ROLE: relay_url}
    passwords = {
        role: None if url is None else password_of(url, role) for role, url in urls.items()
    }
    with _turn(owner_url, patience), connect(owner_url) as owner:
        _ensure_roles(owner, passwords)
        grant_database(owner, list(passwords))
        limit_roles(owner)
        for environment in (*LIBRARY, *application):
            _upgrade_patiently(owner_url, environment, patience)
            owner.execute(
                sql.SQL("grant select on {} to {}").format(
                    sql.Identifier(environment.version_table),
                    sql.SQL(", ").join(map(sql.Identifier, passwords)),
                )
            )


def pending(url: str, environments: Sequence[MigrationEnvironment]) -> list[Pending]:
    """Returns the `environments` whose migrations the database at `url` lacks.

    Every runtime role can check this. A database that is ahead of the code, as during a release,
    does not count as behind. Raises `DatabaseUnreachable`.
    """
    with connect(url) as connection:
        found = (_pending(connection, environment) for environment in environments)
        return [behind for behind in found if behind is not None]


def refuse_pending(url: str, environments: Sequence[MigrationEnvironment]) -> None:
    """Raises `MigrationsBehind` if the database at `url` lacks migrations that the code needs."""
    behind = pending(url, environments)
    if behind:
        raise MigrationsBehind(f"{'; '.join(map(str, behind))}. Migrate the database as its owner.")


def run_migrations(metadata: MetaData) -> None:
    """Runs an environment's migrations; its env.py calls this with its models' `metadata`.

    Raises:
        ConfigurationError: Alembic's own command runs it, rather than `migrate()`.
    """
    connection = context.config.attributes.get("connection")
    if not isinstance(connection, Connection):
        raise ConfigurationError(
            "these migrations do not run with Alembic's own command. Call "
            "temporal_tenancy.postgres.migrations.migrate()."
        )
    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table=context.config.get_main_option("version_table") or "",
        compare_server_default=True,
        include_name=lambda name, kind, parents: kind != "table" or name in metadata.tables,
    )
    with context.begin_transaction():
        context.run_migrations()


def alembic_config(environment: MigrationEnvironment, connection: Connection | None) -> Config:
    """Returns Alembic's settings for `environment`, without a configuration file."""
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", environment.script_location)
    config.set_main_option("version_table", environment.version_table)
    return config


def _ensure_roles(owner: psycopg.Connection[Any], passwords: Mapping[str, str | None]) -> None:
    """Creates the roles; retries, since another database's migration may create them right now."""
    for left in reversed(range(ROLE_TRIES)):
        try:
            for role, password in passwords.items():
                ensure_role(owner, role, password)
        except (*_MADE_MEANWHILE, psycopg.errors.InternalError_):  # tuple concurrently updated
            if not left:
                raise
            time.sleep(ROLE_PAUSE)
        else:
            return


@contextmanager
def _turn(owner_url: str, patience: Patience) -> Iterator[None]:
    """Runs the block while no other call migrates, under a row lock no runtime role can hold long.

    Creates the table `locks` if it is missing. The row itself is not needed: it is rolled back.
    """
    with connect(owner_url) as connection:
        with suppress(*_MADE_MEANWHILE):
            connection.execute(MAKE_TABLE)
        with connection.transaction(force_rollback=True):
            connection.execute("set local idle_in_transaction_session_timeout = 0")
            connection.execute(_SET_LOCK_TIMEOUT, [milliseconds(patience.turn)])
            try:
                connection.execute(_TURN)
            except psycopg.errors.LockNotAvailable:
                raise MigrationBlocked(
                    f"another call has been migrating this database for {patience.turn} (h:mm:ss). "
                    "Wait until it ends, or end it, and try again."
                ) from None
            yield


def _upgrade_patiently(
    owner_url: str, environment: MigrationEnvironment, patience: Patience
) -> None:
    for left in reversed(range(patience.tries)):
        try:
            _upgrade(owner_url, environment, patience)
        except OperationalError as error:
            if not is_lock_held(error):
                raise
            log.warning(
                "migrations.blocked", extra={"environment": environment.name, "tries_left": left}
            )
        else:
            return
        if left:
            time.sleep(patience.pause.total_seconds())
    raise MigrationBlocked(
        f"the {environment.name} could not be migrated: other transactions had its tables locked "
        f"on {patience.tries} tries in a row.{_holders(owner_url)} Try again when they have ended: "
        "finished migrations stay, and the next try continues after them."
    )


def _upgrade(owner_url: str, environment: MigrationEnvironment, patience: Patience) -> None:
    engine = create_engine(database_url(owner_url), poolclass=NullPool, hide_parameters=True)
    with engine.connect() as connection:
        waits = milliseconds(patience.lock_timeout)
        connection.execute(text(f"set lock_timeout = {waits}"))
        connection.commit()
        with _ALEMBIC:
            command.upgrade(alembic_config(environment, connection), "head")


def _holders(owner_url: str) -> str:
    """A sentence that names the sessions with tables locked now; empty if there are none."""
    with connect(owner_url) as owner:
        sessions = owner.execute(_HOLDERS).fetchall()
    names = ", ".join(f"process {pid} of {role}" for pid, role in sessions)
    return f" Locks are held by {names}." if names else ""


def _pending(
    connection: psycopg.Connection[Any], environment: MigrationEnvironment
) -> Pending | None:
    scripts = ScriptDirectory.from_config(alembic_config(environment, None))
    needed = scripts.get_current_head() or ""
    row = None
    if connection.execute("select to_regclass(%s)", [environment.version_table]).fetchone() != (
        None,
    ):
        row = connection.execute(
            sql.SQL("select version_num from {}").format(sql.Identifier(environment.version_table))
        ).fetchone()
    revision = None if row is None else str(row[0])
    if revision == needed:
        return None
    if revision is not None and not _known(scripts, revision):
        return None
    return Pending(environment, revision, needed)


def _known(scripts: ScriptDirectory, revision: str) -> bool:
    try:
        return scripts.get_revision(revision) is not None
    except CommandError:
        return False
