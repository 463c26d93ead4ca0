"""Database sessions: a tenant's, and the platform's.

A tenant's session takes no tenant argument: it reads the tenant from the current scope, and raises
without one before anything is sent.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final
from weakref import WeakSet

import psycopg
from sqlalchemy import URL
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from temporalio import workflow

from temporal_tenancy.core.directory import plan_of_this_activity
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
from temporal_tenancy.core.stores import Isolation, StoreDirectory
from temporal_tenancy.postgres._awaited_session import AwaitedSession
from temporal_tenancy.postgres._connection_cap import ConnectionCap
from temporal_tenancy.postgres._connection_guard import guard_engine
from temporal_tenancy.postgres._connection_shares import ConnectionShares
from temporal_tenancy.postgres._engines import make_engine, pool_of, shares_of
from temporal_tenancy.postgres._guarded_connection import (
    PlatformConnection,
    TenantConnection,
    last_commit,
)
from temporal_tenancy.postgres._servers import Server
from temporal_tenancy.postgres._shared_only import SharedOnly
from temporal_tenancy.postgres._store_engines import StoreEngines
from temporal_tenancy.postgres._transaction_clock import transaction_clock
from temporal_tenancy.postgres.control_session import SESSION_CONTROL
from temporal_tenancy.postgres.database_errors import withhold_values
from temporal_tenancy.postgres.database_urls import database_url
from temporal_tenancy.postgres.installation import Installation
from temporal_tenancy.postgres.lock_timeouts import (
    LOCK_TIMEOUT,
    SESSION_LOCK_TIMEOUT,
    SESSION_SETTINGS,
    PlatformSession,
    milliseconds,
)
from temporal_tenancy.postgres.pool_share import RESERVED, SIZE, PoolShare
from temporal_tenancy.postgres.schema_in_use import use_schema
from temporal_tenancy.postgres.secret_texts import hidden
from temporal_tenancy.postgres.session_limits import SessionLimits
from temporal_tenancy.postgres.tenant_owned import (
    SESSION_CLOCK,
    SESSION_HOLDER,
    SESSION_LIMITS,
    SESSION_STORE,
    SESSION_TENANT,
    SESSION_UNFINISHED,
    TenantSession,
)
from temporal_tenancy.postgres.unfinished import Unfinished

# The platform is the only owner in it, so no connections are reserved and none of its waiting
# counts as blocked.
PLATFORM_POOL: Final = PoolShare(5, reserved=0, patience=math.inf)


@dataclass(frozen=True)
class PoolUse:
    """How a pool of connections is used."""

    size: int  # connections at most
    in_use: int  # connections that sessions hold
    waiting: int  # sessions that wait for a connection
    open: int  # connections that are open, in use or idle


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
        max_connections: int | None = None,
        stores: StoreDirectory | Callable[[Database], StoreDirectory] | None = None,
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
            platform_settings: server settings of the platform role's transactions.
            tenant_pool: how tenants share the tenant role's connections; overrides
                `tenant_pool_size`.
            max_connections: maximum number of connections for tenants' work, open at one time over
                all stores; overrides the size of the pool.
            stores: says in which store the rows of each tenant are, or makes what says it of this
                database, such as `ControlPlaneStores`; None: in the shared one.
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
        self._platform_settings = dict(platform_settings or {})
        schema = (installation or Installation()).schema
        self._tenant_limits = tenant_limits or SessionLimits()
        share = tenant_pool or PoolShare(tenant_pool_size)
        if max_connections is not None:
            share = replace(share, size=max_connections)
        if share.reserved < RESERVED:
            raise ConfigurationError(
                f"a tenant leaves {RESERVED} connections of a pool to others, or more. "
                f"Give the PoolShare reserved={RESERVED} or more."
            )
        self._schema, self._application_name = schema, application_name
        self._shares = ConnectionShares(share)
        self._cap = None if stores is None else ConnectionCap(share.size)
        self._tenant = None if tenant_url is None else self._tenants(database_url(tenant_url))
        self._platform = None
        if platform_url is not None:
            self._platform = make_engine(
                database_url(platform_url),
                ConnectionShares(replace(PLATFORM_POOL, size=platform_pool_size)),
                application_name,
                PlatformConnection,
            )
            use_schema(self._platform.sync_engine, schema)
            guard_engine(self._platform.sync_engine)
        if callable(stores):
            stores = stores(self)
        self._stores = None if stores is None else StoreEngines(stores, self._tenants)
        self._shared_only = SharedOnly(None if platform_url is None else self.platform_session)
        _open.add(self)

    def _tenants(self, url: URL, server: Server | None = None) -> AsyncEngine:
        """Returns an engine for tenants' work; `server`: of the stores that it is for."""
        engine = make_engine(
            url, self._shares, self._application_name, TenantConnection, self._cap, server
        )
        use_schema(engine.sync_engine, self._schema)
        guard_engine(engine.sync_engine)
        return engine

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
        if self._stores is None:
            await self._shared_only.require(tenant)
        store = None if self._stores is None else await self._stores.store_of(tenant)
        engine = None
        if self._stores is not None and store is not None:
            engine = await self._stores.engine_of(store)
        engine = engine or self.tenant_engine
        name = None if store is None else store.name
        # A store's own tables of the control plane are empty.
        apart = store is not None and store.isolation is Isolation.DATABASE
        plan, shares = plan_of_this_activity(tenant), shares_of(engine)
        if limits is None:
            limits = self._tenant_limits if plan is None else self._tenant_limits.of_plan(plan)
        most = None if plan is None else shares.share.most_of(plan.pool_share)
        with shares.holder(f"tenant {tenant}", tenant, name, most) as holder:
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
                            SESSION_LIMITS: limits,
                            SESSION_HOLDER: holder,
                            SESSION_CLOCK: clock,
                            SESSION_STORE: store,
                            SESSION_UNFINISHED: Unfinished(),
                            **({SESSION_CONTROL: self} if apart else {}),
                        },
                    )
                ) as session,
            ):
                block = _session.provide(session)
                with block, _abandonable(session, block):
                    yield session

    @asynccontextmanager
    async def platform_session(
        self,
        reason: str,
        *,
        lock_timeout: timedelta | None = None,
        statement_timeout: timedelta | None = None,
    ) -> AsyncIterator[AsyncSession]:
        """Opens a platform session on this database; see the function `platform_session`.

        `lock_timeout` overrides the database's `platform_lock_timeout` for this session, and
        `statement_timeout` what its platform settings or the server say of one statement, which
        then fails with `StatementTimeout`.
        """
        refuse_workflow_code()
        scope = current_scope()
        if isinstance(scope, TenantScope):
            raise ScopeMissing(
                f"this code runs for {scope} and may not use the control plane. "
                "Move it to a platform activity."
            )
        settings = self._platform_settings
        if statement_timeout is not None:
            settings = {**settings, "statement_timeout": milliseconds(statement_timeout)}
        with enter(PlatformScope(reason)), shares_of(self.platform_engine).holder(PLATFORM):
            async with _transaction(
                AwaitedSession(
                    self.platform_engine,
                    sync_session_class=PlatformSession,
                    expire_on_commit=False,
                    close_resets_only=False,
                    info={
                        SESSION_LOCK_TIMEOUT: lock_timeout or self._platform_lock_timeout,
                        SESSION_SETTINGS: settings,
                        SESSION_UNFINISHED: Unfinished(),
                    },
                )
            ) as session:
                yield session

    async def dispose(self) -> None:
        """Closes all connections."""
        if self._stores is not None:
            await self._stores.dispose()
        for engine in (self._tenant, self._platform):
            if engine is not None:
                await engine.dispose()
        if self._tenant is not None:
            self._shares = shares_of(self._tenant)

    def pools(self) -> Mapping[str, PoolUse]:
        """Returns how the pools are used now, by `tenant` and `platform`; safe in any thread.

        `tenant` is all tenants' work, over all stores.
        """
        found = {}
        if self._cap is not None:
            found["tenant"] = _use(self._shares, self._cap.count())
        elif self._tenant is not None:
            found["tenant"] = _use(self._shares, pool_of(self._tenant).count_open())
        if self._platform is not None:
            platform = pool_of(self._platform)
            found["platform"] = _use(platform.shares, platform.count_open())
        return found

    def cut(self) -> None:
        """Cuts all connections, in use or not: statements that wait for the server fail at once.

        For a stop that must end, also if the server or the network no longer answers.
        """
        for engine in (self._tenant, self._platform, *(self._stores or ())):
            if engine is not None:
                pool_of(engine).cut()


def _use(shares: ConnectionShares, count_open: int) -> PoolUse:
    return PoolUse(
        size=shares.share.size,
        in_use=sum(shares.held.values()),
        waiting=sum(shares.waiting.values()),
        open=count_open,
    )


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
    by design, such as a batch of an import, passes its own `limits`; None: those of the tenant's
    plan, which an activity knows, and the database's where it sets none.

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
            with last_commit():
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


def refuse_workflow_code() -> None:
    """Raises `ScopeMissing` in workflow code."""
    if workflow.in_workflow():
        raise ScopeMissing(
            "workflow code is replayed and may not use the database. Use it in an activity."
        )
