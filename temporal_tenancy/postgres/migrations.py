"""Bringing a database to what the code needs, as its owner, and finding out whether it is there."""

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
# What a migration may have waited for.
_HOLDERS: Final = """
    select distinct activity.pid, activity.usename
    from pg_locks as held
    join pg_class on pg_class.oid = held.relation
    join pg_stat_activity as activity on activity.pid = held.pid
    where held.granted
        and held.database = (select oid from pg_database where datname = current_database())
        and pg_class.relnamespace = current_schema()::regnamespace
        and pg_class.relkind in ('r', 'p') and pg_class.relname <> 'locks'
    order by activity.pid
    limit 5
"""

# How the server says that another made the same thing at the same time: each is one step of it.
_MADE_MEANWHILE: Final = (
    psycopg.errors.DuplicateTable,
    psycopg.errors.DuplicateObject,
    psycopg.errors.UniqueViolation,
)

ROLE_TRIES: Final = 40
ROLE_PAUSE: Final = 0.05  # seconds between them

# Alembic keeps what runs in globals of its own: one at a time in a process.
_ALEMBIC: Final = threading.Lock()

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class Patience:
    """How long migrations wait for what others have locked."""

    lock_timeout: timedelta = timedelta(seconds=1)  # whoever comes behind them waits as well
    tries: int = 30
    pause: timedelta = timedelta(seconds=2)  # between tries, in which others get on
    turn: timedelta = timedelta(minutes=10)  # for another's migrations to end


@dataclass(frozen=True)
class Pending:
    """How far a database is behind one environment's migrations."""

    environment: MigrationEnvironment
    revision: str | None  # where the database is; None: none has run
    needed: str

    def __str__(self) -> str:
        at = self.revision or "its beginning"
        return f"the {self.environment.name} is at {at}, and the code needs {self.needed}"


def migrate(
    owner_url: str,
    *,
    tenant_url: str,
    platform_url: str,
    relay_url: str | None = None,
    application: Sequence[MigrationEnvironment] = (),
    patience: Patience | None = None,
) -> None:
    """Makes the runtime roles and runs all migrations: the control plane's, then `application`'s.

    What is there already is left as it is. Two calls at once take turns. A migration that waits for
    a table holds up all who come behind it, so it does not wait for long, and tries again.

    Args:
        owner_url: of the role that owns the database; it may make roles.
        tenant_url: of `tenancy_tenant`; gives that role its password.
        platform_url: of `tenancy_platform`; gives that role its password.
        relay_url: of `tenancy_relay`; gives that role its password. Without one it is made so
            that policies can name it, and cannot log in.
        application: the environments of the application's tenant-owned tables.
        patience: with what others have locked.

    Raises:
        ConfigurationError: a URL is of another role than it should be, or has no password.
        DatabaseUnreachable: the server does not answer the owner.
        ExcessRights: a runtime role is there and may do more than its part.
        MigrationBlocked: others had what was needed locked, each time.
    """
    patience = patience or Patience()
    passwords = {
        TENANT_ROLE: password_of(tenant_url, TENANT_ROLE),
        PLATFORM_ROLE: password_of(platform_url, PLATFORM_ROLE),
        RELAY_ROLE: None if relay_url is None else password_of(relay_url, RELAY_ROLE),
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
    """Says which `environments` the database at `url` is behind in; any runtime role may ask.

    A database that is ahead of the code, as during a release, is not behind.
    """
    with connect(url) as connection:
        found = (_pending(connection, environment) for environment in environments)
        return [behind for behind in found if behind is not None]


def refuse_pending(url: str, environments: Sequence[MigrationEnvironment]) -> None:
    """Raises `MigrationsBehind` where the database at `url` lacks migrations of the code's."""
    behind = pending(url, environments)
    if behind:
        raise MigrationsBehind(f"{'; '.join(map(str, behind))}. Migrate the database as its owner.")


def run_migrations(metadata: MetaData) -> None:
    """What an environment's env.py consists of. `metadata` is what its models say."""
    connection = context.config.attributes.get("connection")
    if not isinstance(connection, Connection):
        raise ConfigurationError(
            "these migrations run inside temporal_tenancy.postgres.migrations.migrate(), not by "
            "alembic's own command."
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
    """Alembic's settings for `environment`, which need no file."""
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", environment.script_location)
    config.set_main_option("version_table", environment.version_table)
    return config


def _ensure_roles(owner: psycopg.Connection[Any], passwords: Mapping[str, str | None]) -> None:
    """Roles are the whole server's: a migration of another database may make them right now."""
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
    """Runs the block while nobody else migrates: by a row that no runtime role can lock for long.

    Where there is no table yet it is made. It is not for its rows, so the turn is rolled back.
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
                    f"another call has been migrating this database for {patience.turn} (hours, "
                    "minutes, seconds). Wait for its end, or end it, and try again."
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
        f"the {environment.name} could not be migrated: others had its tables locked, "
        f"{patience.tries} times in a row.{_holders(owner_url)} What is done of it stays, "
        "and the next try goes on. Try again when they have ended."
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
    """Who has tables locked now, as a sentence; nothing where nobody has."""
    with connect(owner_url) as owner:
        found = owner.execute(_HOLDERS).fetchall()
    named = ", ".join(f"process {pid} of {role}" for pid, role in found)
    return f" There are locks of {named}." if named else ""


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
