"""Database sessions: a tenant's, and the platform's.

A tenant's session takes no tenant argument: it reads the tenant from the current scope, and raises
without one before anything is sent.
"""

from __future__ import annotations

import asyncio
import math
import select
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final
from weakref import WeakSet

import psycopg
from sqlalchemy import URL, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DisconnectionError, InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection
from temporalio import workflow

from temporal_tenancy.core.errors import ConfigurationError, ScopeMissing
from temporal_tenancy.core.scope import (
    PlatformScope,
    TenantScope,
    current_scope,
    current_tenant,
    enter,
)
from temporal_tenancy.core.scoped_value import Block, ScopedValue
from temporal_tenancy.core.spelling import spelled
from temporal_tenancy.postgres._awaited_session import AwaitedSession
from temporal_tenancy.postgres._connection_guard import guard_platform_engine, guard_tenant_engine
from temporal_tenancy.postgres._connection_shares import ConnectionShares
from temporal_tenancy.postgres._every_time import read_every_time
from temporal_tenancy.postgres._guarded_connection import GuardedConnection, TenantConnection
from temporal_tenancy.postgres._shared_pool import SharedPool
from temporal_tenancy.postgres._transaction_clock import transaction_clock
from temporal_tenancy.postgres.database_errors import withhold_values
from temporal_tenancy.postgres.installation import Installation
from temporal_tenancy.postgres.lock_timeouts import (
    LOCK_TIMEOUT,
    SESSION_LOCK_TIMEOUT,
    PlatformSession,
)
from temporal_tenancy.postgres.pool_share import RESERVED, SIZE, PoolShare
from temporal_tenancy.postgres.schema_in_use import use_schema
from temporal_tenancy.postgres.secret_texts import hidden
from temporal_tenancy.postgres.session_limits import SessionLimits
from temporal_tenancy.postgres.silent_servers import silence_watch
from temporal_tenancy.postgres.tenant_owned import (
    SESSION_CLOCK,
    SESSION_HOLDER,
    SESSION_LIMITS,
    SESSION_TENANT,
    SESSION_UNFINISHED,
    TenantSession,
)
from temporal_tenancy.postgres.unfinished import Unfinished

DRIVER: Final = "postgresql+psycopg"
CONNECT_TIMEOUT: Final = 10  # seconds
# The platform is the only owner in it, so no connections are reserved and none of its waiting
# counts as blocked.
PLATFORM_POOL: Final = PoolShare(5, reserved=0, patience=math.inf)
KEEPALIVE_IDLE: Final = 30  # seconds without traffic until the first TCP keepalive
KEEPALIVE_INTERVAL: Final = 10  # seconds
KEEPALIVE_COUNT: Final = 3  # unanswered keepalives until the connection counts as lost


@dataclass(frozen=True)
class PoolUse:
    """How a pool of connections is used."""

    size: int  # connections at most
    in_use: int  # connections that sessions hold
    waiting: int  # sessions that wait for a connection


@spelled
class Database:
    """The two engines of a process: one for the tenant role, one for the platform role."""

    def __init__(
        self,
        *,
        tenant_url: str | None = None,
        platform_url: str | None = None,
        tenant_pool_size: int = SIZE,
        platform_pool_size: int = PLATFORM_POOL.size,
        application_name: str = "temporal-tenancy",
        platform_settings: Mapping[str, str] | None = None,
        tenant_pool: PoolShare | None = None,
        tenant_limits: SessionLimits | None = None,
        platform_lock_timeout: timedelta = LOCK_TIMEOUT,
        installation: Installation | None = None,
    ) -> None:
        """
        Args:
            tenant_url: URL with the role `tenancy_tenant`; None: this process has no access to
                tenants' data.
            platform_url: URL with the role `tenancy_platform`; None: this process has no access
                to the control plane.
            tenant_pool_size: maximum number of connections of the tenant role.
            platform_pool_size: maximum number of connections of the platform role.
            application_name: the name that `pg_stat_activity` shows.
            platform_settings: server settings of the platform role's connections.
            tenant_pool: how tenants share the tenant role's connections; overrides
                `tenant_pool_size`.
            tenant_limits: default limits of tenants' sessions; None: those of `SessionLimits()`.
            platform_lock_timeout: how long a statement of the platform role waits for a lock.
            installation: where the library's tables are; None: in the schema `tenancy`. A database
                that has them in `public`, as earlier releases made them, is recognized.

        Raises:
            ConfigurationError: a URL is not a PostgreSQL URL, or `tenant_pool` reserves too few
                connections.
        """
        tenant_url, platform_url = hidden(tenant_url), hidden(platform_url)
        self._platform_lock_timeout = platform_lock_timeout
        schema = (installation or Installation()).schema
        self._tenant_limits = tenant_limits or SessionLimits()
        share = tenant_pool or PoolShare(tenant_pool_size)
        if share.reserved < RESERVED:
            raise ConfigurationError(
                f"a tenant leaves {RESERVED} connections of a pool to others, or more. "
                f"Give the PoolShare reserved={RESERVED} or more."
            )
        self._tenant = _engine(tenant_url, share, application_name, {}, TenantConnection)
        self._platform = _engine(
            platform_url,
            replace(PLATFORM_POOL, size=platform_pool_size),
            application_name,
            platform_settings or {},
            GuardedConnection,
        )
        for engine in (self._tenant, self._platform):
            if engine is not None:
                use_schema(engine.sync_engine, schema)
        _open.add(self)
        if self._tenant is not None:
            guard_tenant_engine(self._tenant.sync_engine)
        if self._platform is not None:
            guard_platform_engine(self._platform.sync_engine)

    @property
    def tenant_engine(self) -> AsyncEngine:
        """The tenant role's engine; it refuses statements outside a `tenant_session()`.

        Raises `ConfigurationError` if this process has no `tenant_url`.
        """
        if self._tenant is None:
            raise ConfigurationError(
                "this process has no database for tenants. Give its Database a tenant_url."
            )
        return self._tenant

    @property
    def has_control_plane(self) -> bool:
        """Whether it was given the platform's URL."""
        return self._platform is not None

    @property
    def platform_engine(self) -> AsyncEngine:
        """The platform role's engine; it refuses statements outside a platform scope.

        Raises `ConfigurationError` if this process has no `platform_url`.
        """
        if self._platform is None:
            raise ConfigurationError(
                "this process has no control plane database. Give its Database a platform_url."
            )
        return self._platform

    @asynccontextmanager
    async def tenant_session(
        self, *, limits: SessionLimits | None = None
    ) -> AsyncIterator[AsyncSession]:
        """Opens a tenant's session on this database; see the function `tenant_session`."""
        refuse_workflow_code()
        tenant = current_tenant()
        engine = self.tenant_engine
        with _shares(engine).holder(f"tenant {tenant}", tenant) as holder:
            async with (
                transaction_clock(engine.dialect) as clock,
                _transaction(
                    AwaitedSession(
                        engine,
                        sync_session_class=TenantSession,
                        expire_on_commit=False,
                        close_resets_only=False,  # a closed session cannot be used again
                        info={
                            SESSION_TENANT: tenant,
                            SESSION_LIMITS: limits or self._tenant_limits,
                            SESSION_HOLDER: holder,
                            SESSION_CLOCK: clock,
                            SESSION_UNFINISHED: Unfinished(),
                        },
                    )
                ) as session,
            ):
                block = _session.provide(session)
                with block, _abandonable(session, block):
                    yield session

    @asynccontextmanager
    async def platform_session(
        self, reason: str, *, lock_timeout: timedelta | None = None
    ) -> AsyncIterator[AsyncSession]:
        """Opens a platform session on this database; see the function `platform_session`.

        `lock_timeout` overrides the database's `platform_lock_timeout` for this session.
        """
        refuse_workflow_code()
        scope = current_scope()
        if isinstance(scope, TenantScope):
            raise ScopeMissing(
                f"this code runs for {scope} and may not use the control plane. "
                "Move it to a platform activity."
            )
        with enter(PlatformScope(reason)), _shares(self.platform_engine).holder(PLATFORM):
            async with _transaction(
                AwaitedSession(
                    self.platform_engine,
                    sync_session_class=PlatformSession,
                    expire_on_commit=False,
                    close_resets_only=False,
                    info={
                        SESSION_LOCK_TIMEOUT: lock_timeout or self._platform_lock_timeout,
                        SESSION_UNFINISHED: Unfinished(),
                    },
                )
            ) as session:
                yield session

    async def dispose(self) -> None:
        """Closes all connections."""
        for engine in (self._tenant, self._platform):
            if engine is not None:
                await engine.dispose()

    def pools(self) -> Mapping[str, PoolUse]:
        """Returns how the pools are used now, by `tenant` and `platform`; safe in any thread."""
        engines = {"tenant": self._tenant, "platform": self._platform}
        return {
            name: PoolUse(
                size=_shares(engine).share.size,
                in_use=sum(_shares(engine).held.values()),
                waiting=sum(_shares(engine).waiting.values()),
            )
            for name, engine in engines.items()
            if engine is not None
        }

    def cut(self) -> None:
        """Cuts all connections, in use or not: statements that wait for the server fail at once.

        For a stop that must end, also if the server or the network no longer answers.
        """
        for engine in (self._tenant, self._platform):
            if engine is not None:
                _pool(engine).cut()


PLATFORM: Final = "the platform"

_session: Final[ScopedValue[AsyncSession]] = ScopedValue(
    "temporal_tenancy_session", "the current tenant_session()", in_generators=True
)
_current: Final[ScopedValue[Database]] = ScopedValue("temporal_tenancy_database", "the database")


# The sessions of a block's generators, which nobody may ever finish.
_generators_sessions: Final[ScopedValue[set[AsyncSession]]] = ScopedValue(
    "temporal_tenancy_generators_sessions", "the sessions of generators"
)


@asynccontextmanager
async def closing_sessions() -> AsyncIterator[None]:
    """Closes what generators have left open at the end of the block, such as a streamed response.

    A server that loses its client abandons the generator, and with it the session, until Python
    collects them. Until then the session would keep its connection, and its transaction.
    """
    sessions: set[AsyncSession] = set()
    with _generators_sessions.provide(sessions):
        try:
            yield
        finally:
            for session in list(sessions):
                with suppress(InvalidRequestError):  # it is in use in another task, which ends it
                    await asyncio.shield(asyncio.create_task(session.close()))


@contextmanager
def _abandonable(session: AsyncSession, block: Block[AsyncSession]) -> Iterator[None]:
    sessions = _generators_sessions.peek() if block.in_generator else None
    if sessions is not None:
        sessions.add(session)
    try:
        yield
    finally:
        if sessions is not None:
            sessions.discard(session)


_open: Final[WeakSet[Database]] = WeakSet()


def databases() -> Sequence[Database]:
    """Returns the databases of this process; safe in any thread."""
    return list(_open)


def use_database(database: Database) -> AbstractContextManager[Database]:
    """Opens sessions inside the block on `database`."""
    return _current.provide(database)


def current_database() -> Database:
    """Returns the current database.

    Raises:
        ConfigurationError: none is set.
        ScopeMissing: this is workflow code.
    """
    refuse_workflow_code()
    database = _current.peek()  # the process's: safe to use after its block, unlike a scope
    if database is None:
        raise ConfigurationError(
            "no database is set. Give one to the plugin, or wrap the code in use_database(...)."
        )
    return database


@asynccontextmanager
async def tenant_session(*, limits: SessionLimits | None = None) -> AsyncIterator[AsyncSession]:
    """Opens a session that sees and writes only the current tenant's rows.

    It commits at the end of the block and rolls back on an error. The block may also commit
    earlier; the next statement then begins a new transaction of the same tenant. Work that is slow
    by design, such as a batch of an import, passes its own `limits`; None: the database's.

    Raises:
        ScopeMissing: no tenant scope is open, or this is workflow code; nothing was sent.
        TenantMismatch: a row belongs to another tenant, or the scope changed inside the block.
        NotAwaited: a request, an event or a call of the session was not awaited; the transaction
            was rolled back.
        StatementRefused: the SQL could change the session's tenant or limits; it was not sent.
        LockHeld, StatementTimeout, IdleTransaction, TransactionTimeout: a limit was reached.
        PoolShareExceeded: this session is inside another one and would wait for a connection.
        PoolShareInUse: the tenant's own work uses all connections that it may have.
        PoolExhausted: other tenants' work uses all connections.
        DatabaseUnreachable: the connection failed or was lost.
        sqlalchemy.exc.DBAPIError: any other database error, without values of rows.
    """
    async with current_database().tenant_session(limits=limits) as session:
        yield session


@asynccontextmanager
async def platform_session(reason: str) -> AsyncIterator[AsyncSession]:
    """Opens a session on the control plane, and runs the block in a platform scope for `reason`.

    It commits at the end of the block and rolls back on an error. No statement waits for a lock
    longer than the database's `platform_lock_timeout`, since tenants can lock some of the rows.

    Raises:
        ScopeMissing: a tenant's scope is open, or this is workflow code; nothing was sent.
        LockHeld: a statement waited too long for a lock.
        DatabaseUnreachable: the connection failed or was lost.
    """
    async with current_database().platform_session(reason) as session:
        yield session


@asynccontextmanager
async def _transaction(session: AsyncSession) -> AsyncIterator[AsyncSession]:
    async with session:
        try:
            yield session
            session.info[SESSION_UNFINISHED].require_none()
            await session.commit()
        except psycopg.Error as error:
            # Errors of the driver's own cursor (COPY) do not reach the engine's handlers.
            withhold_values(error)
            raise


def current_tenant_session() -> AsyncSession:
    """Returns the innermost open `tenant_session()`.

    Raises `ScopeMissing` if there is none, and in workflow code.
    """
    refuse_workflow_code()
    session = _session.get()
    if session is None:
        raise ScopeMissing(
            "no tenant_session() is open here, so there is no transaction that this could join. "
            "Call it inside: async with tenant_session()."
        )
    return session


def database_url(url: str) -> URL:
    """Returns `url` with the psycopg 3 driver; accepts `postgresql://` and `postgres://` too.

    Raises:
        ConfigurationError: `url` is not a PostgreSQL URL; the message does not quote it.
    """
    url = hidden(url)
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        parsed = None
    if parsed is None or parsed.drivername not in ("postgresql", "postgres", DRIVER):
        raise ConfigurationError(
            "a database URL has the form postgresql+psycopg://role:password@host:port/database. "
            "Correct it."
        ) from None
    return parsed.set(drivername=DRIVER)


def _pool(engine: AsyncEngine) -> SharedPool:
    pool = engine.pool
    assert isinstance(pool, SharedPool)
    return pool


def _shares(engine: AsyncEngine) -> ConnectionShares:
    return _pool(engine).shares


def _engine(
    url: str | None,
    share: PoolShare,
    application_name: str,
    settings: Mapping[str, str],
    kind: type[GuardedConnection],
) -> AsyncEngine | None:
    if url is None:
        return None
    parsed = database_url(url)
    options: dict[str, str | int | None] = {
        "application_name": application_name,
        "connect_timeout": CONNECT_TIMEOUT,
        "keepalives": 1,
        "keepalives_idle": KEEPALIVE_IDLE,
        "keepalives_interval": KEEPALIVE_INTERVAL,
        "keepalives_count": KEEPALIVE_COUNT,
    }
    if settings:
        options["options"] = " ".join(f"-c {name}={value}" for name, value in settings.items())
    engine = create_async_engine(
        parsed,
        poolclass=SharedPool,
        pool_size=share.size,
        max_overflow=0,
        # The guard resets connections itself, more thoroughly.
        pool_reset_on_return=None,
        hide_parameters=True,
        connect_args={name: value for name, value in options.items() if name not in parsed.query}
        # No prepared statements: behind a transaction pooler, the next transaction may run on
        # another server connection, which does not have them.
        | {"prepare_threshold": None, "async_creator_fn": kind.connect},
    )
    pool = _pool(engine)
    pool.shares = ConnectionShares(share)
    event.listen(engine.sync_engine, "do_connect", _refuse_silent(parsed))
    event.listen(engine.sync_engine, "connect", _remember(pool, parsed))
    event.listen(engine.sync_engine, "checkout", _replace_closed)
    read_every_time(engine.sync_engine)
    return engine


def _refuse_silent(url: URL) -> Callable[..., None]:  # the arguments of SQLAlchemy's event
    def refuse(*_: object) -> None:
        watch = silence_watch()
        if watch is not None and (reason := watch.reason(url)):
            raise psycopg.OperationalError(reason)

    return refuse


def _remember(pool: SharedPool, url: URL) -> Callable[[DBAPIConnection, ConnectionPoolEntry], None]:
    def remember(connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        driver = getattr(connection, "driver_connection", None)
        if isinstance(driver, psycopg.AsyncConnection):
            pool.opened.add(driver)
            if (watch := silence_watch()) is not None:
                watch.watch(driver, url)

    return remember


def _replace_closed(
    connection: DBAPIConnection, record: ConnectionPoolEntry, proxy: PoolProxiedConnection
) -> None:
    """Makes the pool reconnect if the server has closed the connection.

    A server that closes a connection sends a message first, so an idle socket with data to read is
    closed. A ping would cost a round trip at the start of every session.
    """
    driver = getattr(connection, "driver_connection", None)
    if isinstance(driver, psycopg.AsyncConnection) and _has_unread_data(driver):
        raise DisconnectionError("the server has closed this connection.")


def _has_unread_data(connection: psycopg.AsyncConnection[Any]) -> bool:
    if connection.closed:
        return True
    poll = select.poll()  # select() would reject large file descriptors
    poll.register(connection.fileno(), select.POLLIN | select.POLLPRI)
    return bool(poll.poll(0))


def refuse_workflow_code() -> None:
    """Raises `ScopeMissing` in workflow code."""
    if workflow.in_workflow():
        raise ScopeMissing(
            "workflow code is replayed and may not use the database. Use it in an activity."
        )
