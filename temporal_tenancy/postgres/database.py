"""The way to the database: a tenant's session, and the platform's.

A tenant's session takes no tenant argument: it is the scope's, and where there is none nothing is
sent.
"""

from __future__ import annotations

import math
import select
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import psycopg
from sqlalchemy import URL, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DisconnectionError
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
from temporal_tenancy.core.scoped_value import ScopedValue
from temporal_tenancy.postgres.connection_guard import guard_platform_engine, guard_tenant_engine
from temporal_tenancy.postgres.connection_shares import ConnectionShares
from temporal_tenancy.postgres.database_errors import withhold_values
from temporal_tenancy.postgres.every_time import read_every_time
from temporal_tenancy.postgres.guarded_connection import GuardedConnection, TenantConnection
from temporal_tenancy.postgres.lock_timeouts import (
    LOCK_TIMEOUT,
    SESSION_LOCK_TIMEOUT,
    PlatformSession,
)
from temporal_tenancy.postgres.pool_share import RESERVED, SIZE, PoolShare
from temporal_tenancy.postgres.session_limits import SessionLimits
from temporal_tenancy.postgres.shared_pool import SharedPool
from temporal_tenancy.postgres.tenant_owned import (
    SESSION_CLOCK,
    SESSION_HOLDER,
    SESSION_LIMITS,
    SESSION_TENANT,
    TenantSession,
)
from temporal_tenancy.postgres.transaction_clock import transaction_clock

DRIVER: Final = "postgresql+psycopg"
CONNECT_TIMEOUT: Final = 10  # seconds
# It is the platform's alone, whose statements wait for nobody.
PLATFORM_POOL: Final = PoolShare(5, reserved=0, patience=math.inf)
KEEPALIVE_IDLE: Final = 30  # seconds without traffic until the first TCP keepalive
KEEPALIVE_INTERVAL: Final = 10  # seconds
KEEPALIVE_COUNT: Final = 3  # unanswered ones until the connection is given up


class Database:
    """The two engines of a process: one as the tenant role, one as the platform role."""

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
    ) -> None:
        """
        Args:
            tenant_url: of the role `tenancy_tenant`; None: no tenant's data from this process.
            platform_url: of the role `tenancy_platform`; None: no control plane from this process.
            tenant_pool_size: connections at most, of the tenant role.
            platform_pool_size: connections at most, of the platform role.
            application_name: what the server's list of connections shows.
            platform_settings: of the server, for the platform role's connections.
            tenant_pool: how tenants share the tenant role's connections, in the place of
                `tenant_pool_size`.
            tenant_limits: of a tenant's session that is given none of its own.
            platform_lock_timeout: after which a statement of the platform role gives up a lock.

        Raises:
            ConfigurationError: a URL is not one of PostgreSQL, or the pool has no room for others.
        """
        self._platform_lock_timeout = platform_lock_timeout
        self._tenant_limits = tenant_limits or SessionLimits()
        share = tenant_pool or PoolShare(tenant_pool_size)
        if share.reserved < RESERVED:
            raise ConfigurationError(
                f"a tenant leaves {RESERVED} connections of a pool to others at least."
            )
        self._tenant = _engine(tenant_url, share, application_name, {}, TenantConnection)
        self._platform = _engine(
            platform_url,
            replace(PLATFORM_POOL, size=platform_pool_size),
            application_name,
            platform_settings or {},
            GuardedConnection,
        )
        if self._tenant is not None:
            guard_tenant_engine(self._tenant.sync_engine)
        if self._platform is not None:
            guard_platform_engine(self._platform.sync_engine)

    @property
    def tenant_engine(self) -> AsyncEngine:
        """The tenant role's engine. Its statements are refused outside a `tenant_session()`."""
        if self._tenant is None:
            raise ConfigurationError(
                "this process has no database for tenants. Give its Database a tenant_url."
            )
        return self._tenant

    @property
    def platform_engine(self) -> AsyncEngine:
        """The platform role's engine. Its statements are refused outside a platform scope."""
        if self._platform is None:
            raise ConfigurationError(
                "this process has no control plane database. Give its Database a platform_url."
            )
        return self._platform

    @asynccontextmanager
    async def tenant_session(
        self, *, limits: SessionLimits | None = None
    ) -> AsyncIterator[AsyncSession]:
        """As the function `tenant_session`, on this database."""
        _refuse_workflow_code()
        tenant = current_tenant()
        engine = self.tenant_engine
        with _shares(engine).holder(f"tenant {tenant}") as holder:
            async with (
                transaction_clock(engine.dialect) as clock,
                _transaction(
                    AsyncSession(
                        engine,
                        sync_session_class=TenantSession,
                        expire_on_commit=False,
                        close_resets_only=False,  # nobody begins anything in it behind its block
                        info={
                            SESSION_TENANT: tenant,
                            SESSION_LIMITS: limits or self._tenant_limits,
                            SESSION_HOLDER: holder,
                            SESSION_CLOCK: clock,
                        },
                    )
                ) as session,
            ):
                with _session.provide(session):
                    yield session

    @asynccontextmanager
    async def platform_session(
        self, reason: str, *, lock_timeout: timedelta | None = None
    ) -> AsyncIterator[AsyncSession]:
        """As the function `platform_session`, on this database."""
        _refuse_workflow_code()
        scope = current_scope()
        if isinstance(scope, TenantScope):
            raise ScopeMissing(
                f"this code works for {scope} and may not use the control plane. "
                "Do it in a platform activity."
            )
        with enter(PlatformScope(reason)), _shares(self.platform_engine).holder(PLATFORM):
            async with _transaction(
                AsyncSession(
                    self.platform_engine,
                    sync_session_class=PlatformSession,
                    expire_on_commit=False,
                    close_resets_only=False,
                    info={SESSION_LOCK_TIMEOUT: lock_timeout or self._platform_lock_timeout},
                )
            ) as session:
                yield session

    async def dispose(self) -> None:
        """Closes all connections."""
        for engine in (self._tenant, self._platform):
            if engine is not None:
                await engine.dispose()


PLATFORM: Final = "the platform"

_session: Final[ScopedValue[AsyncSession]] = ScopedValue(
    "temporal_tenancy_session", "the current tenant_session()", in_generators=True
)
_current: Final[ScopedValue[Database]] = ScopedValue("temporal_tenancy_database", "the database")


def use_database(database: Database) -> AbstractContextManager[Database]:
    """Makes `database` the one that sessions inside the block are opened on."""
    return _current.provide(database)


def current_database() -> Database:
    """The database of the running code; raises `ConfigurationError` where there is none."""
    database = _current.peek()  # it is the process's, and says nothing of whose code this is
    if database is None:
        raise ConfigurationError(
            "no database is set. Give one to the plugin, or wrap the code in use_database(...)."
        )
    return database


@asynccontextmanager
async def tenant_session(*, limits: SessionLimits | None = None) -> AsyncIterator[AsyncSession]:
    """Opens a session on the current tenant's rows, and no others.

    It commits at the end of the block and rolls back on an error. A block may also commit on the
    way: what follows is a new transaction of the same tenant. What takes long by design, as a
    batch of an import does, gives `limits` of its own; None: the database's.

    Raises:
        ScopeMissing: there is no tenant, or this is workflow code; nothing has been sent.
        TenantMismatch: a row of another tenant was to be written, or the scope changed in the
            block.
        StatementRefused: SQL that would take its tenant or its limits from the session.
        LockHeld, StatementTimeout, IdleTransaction, TransactionTimeout: a limit was reached.
        PoolShareExceeded: a session inside another one would wait for a connection.
        PoolShareInUse: the tenant's own work holds the connections that it may have.
        PoolExhausted: the work of others holds all connections.
        DatabaseUnreachable: no connection could be made, or it was lost.
        sqlalchemy.exc.DBAPIError: anything else the database refuses; without values of rows.
    """
    async with current_database().tenant_session(limits=limits) as session:
        yield session


@asynccontextmanager
async def platform_session(reason: str) -> AsyncIterator[AsyncSession]:
    """Opens a session on the control plane, and runs the block as the platform for `reason`.

    It commits at the end of the block and rolls back on an error. It waits for no lock for longer
    than the database's `platform_lock_timeout`: some of its rows are the tenants' as well.

    Raises:
        ScopeMissing: a tenant's code called it, or workflow code; nothing has been sent.
        LockHeld: a lock was waited for in vain.
        DatabaseUnreachable: no connection could be made, or it was lost.
    """
    async with current_database().platform_session(reason) as session:
        yield session


@asynccontextmanager
async def _transaction(session: AsyncSession) -> AsyncIterator[AsyncSession]:
    async with session:
        try:
            yield session
            await session.commit()
        except psycopg.Error as error:
            # From the driver's own cursor (COPY), past the engine's handlers.
            withhold_values(error)
            raise


def current_tenant_session() -> AsyncSession:
    """The innermost `tenant_session()` that is open here; raises `ScopeMissing` where none is."""
    session = _session.get()
    if session is None:
        raise ScopeMissing(
            "no tenant_session() is open here, and so no transaction that this could be part of. "
            "Do it inside: async with tenant_session()."
        )
    return session


def database_url(url: str) -> URL:
    """Returns `url` for psycopg 3; raises `ConfigurationError`, not quoting it, where it is not so.

    `postgresql://` and `postgres://` are taken too.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        parsed = None
    if parsed is None or parsed.drivername not in ("postgresql", "postgres", DRIVER):
        raise ConfigurationError(
            "a database URL reads postgresql+psycopg://role:password@host:port/database."
        ) from None
    return parsed.set(drivername=DRIVER)


def _shares(engine: AsyncEngine) -> ConnectionShares:
    pool = engine.pool
    assert isinstance(pool, SharedPool)
    return pool.shares


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
        # The guard's own check-in does it, and more.
        pool_reset_on_return=None,
        hide_parameters=True,
        connect_args={name: value for name, value in options.items() if name not in parsed.query}
        # A statement prepared on one server connection does not exist on the next one that a
        # transaction pooler gives.
        | {"prepare_threshold": None, "async_creator_fn": kind.connect},
    )
    pool = engine.pool
    assert isinstance(pool, SharedPool)
    pool.shares = ConnectionShares(share)
    event.listen(engine.sync_engine, "checkout", _replace_what_has_ended)
    read_every_time(engine.sync_engine)
    return engine


def _replace_what_has_ended(
    connection: DBAPIConnection, record: ConnectionPoolEntry, proxy: PoolProxiedConnection
) -> None:
    """Has the pool connect anew where the server has ended the connection meanwhile.

    A server that ends a connection says so, and then there is something to read. A ping would be a
    round trip at the beginning of every session.
    """
    driver = getattr(connection, "driver_connection", None)
    if isinstance(driver, psycopg.AsyncConnection) and _has_news(driver):
        raise DisconnectionError("the server has ended this connection.")


def _has_news(connection: psycopg.AsyncConnection[Any]) -> bool:
    if connection.closed:
        return True
    waiting = select.poll()  # a number of any size, which select() would refuse
    waiting.register(connection.fileno(), select.POLLIN | select.POLLPRI)
    return bool(waiting.poll(0))


def _refuse_workflow_code() -> None:
    if workflow.in_workflow():
        raise ScopeMissing(
            "workflow code is replayed and may not use the database. Do it in an activity."
        )
