"""The protocol through which the library looks up tenants, and a short cache in front of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Final, Protocol

from pydantic import BaseModel, ConfigDict, Field

from temporal_tenancy.core.errors import ScopeMissing, TenantInvalid, TenantMissing
from temporal_tenancy.core.identifiers import WellFormedTenantId, may_exist
from temporal_tenancy.core.scope import TenantScope, _outside, current_scope
from temporal_tenancy.core.scoped_value import ScopedValue
from temporal_tenancy.core.spelling import SpelledEnum
from temporal_tenancy.core.stores import SHARED_STORE, Isolation

STATE_CACHE_SECONDS: Final = 5.0  # the longest that a change of status goes unnoticed
PAGE_SIZE: Final = 1_000  # tenants per page when all are read
STATE_CACHE_TENANTS: Final = 10_000  # entries; a full cache is cleared


class TenantStatus(StrEnum, metaclass=SpelledEnum):
    """The stage of a tenant's life cycle."""

    TRIAL = "trial"  # may run jobs until the trial ends
    ACTIVE = "active"  # may run jobs
    SUSPENDED = "suspended"  # may not run jobs until it is resumed
    OFFBOARDING = "offboarding"  # is leaving; only jobs that allow this status run
    DELETED = "deleted"  # has left; the row stays so that its id is never reused


UNKNOWN_SINCE: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""The `status_since` of a tenant whose directory does not know it."""

RUNNABLE: Final = frozenset({TenantStatus.TRIAL, TenantStatus.ACTIVE})
"""The statuses in which a tenant may run a job that does not set its own."""


LIMIT_MIN: Final = timedelta(milliseconds=1)  # PostgreSQL's unit; 0 would be no limit
LIMIT_MAX: Final = timedelta(days=24)  # it counts milliseconds in 32 bits
_Limit = Annotated[timedelta | None, Field(default=None, ge=LIMIT_MIN, le=LIMIT_MAX)]


class Plan(BaseModel):
    """A pricing tier: the features, limits and share of its tenants."""

    model_config = ConfigDict(frozen=True)

    id: str
    fairness_weight: float = Field(default=1.0, ge=0.001, le=1000)  # Temporal's bounds
    concurrency_cap: int | None = Field(default=None, ge=1)  # concurrent jobs; None: no cap
    rate_limits: dict[str, float] = {}  # calls per second, by the name of the service
    features: frozenset[str] = frozenset()
    retention_days: int | None = Field(default=None, ge=1)  # None: kept forever
    # The part of a process's connections that one of its tenants may use; None: the process's own.
    pool_share: float | None = Field(default=None, gt=0, le=1)
    # The limits of its tenants' sessions, each from 1 ms to 24 days; None: the process's own.
    statement_timeout: _Limit = None
    lock_timeout: _Limit = None
    idle_timeout: _Limit = None
    transaction_timeout: _Limit = None


class Tenant(BaseModel):
    """A customer organisation."""

    model_config = ConfigDict(frozen=True)

    id: WellFormedTenantId  # only one in its canonical spelling runs anything
    name: str
    status: TenantStatus
    status_since: datetime = UNKNOWN_SINCE  # aware
    plan: Plan
    features: frozenset[str] = frozenset()  # in addition to the plan's
    time_zone: str = "UTC"  # an IANA name
    settings: dict[str, Any] = {}  # JSON, for the application's own use
    trial_ends_at: datetime | None = None  # aware; None: the trial does not end
    isolation: Isolation = Isolation.SHARED  # how its rows are kept apart from those of others
    store: str = SHARED_STORE  # the name of the store that holds its rows
    # The last migration of each set that its own store has, by the set's name; None: it has no
    # store of its own, or that is not known.
    schema_versions: dict[str, str] | None = None

    @property
    def known_since(self) -> datetime | None:
        """`status_since`, or None if the directory does not know it."""
        return None if self.status_since == UNKNOWN_SINCE else self.status_since

    @property
    def since(self) -> str:
        """The end of a clause about the status: ` since 2026-11-02`, or nothing if not known."""
        known = self.known_since
        return "" if known is None else f" since {known.date().isoformat()}"

    def has_feature(self, feature: str) -> bool:
        """Returns whether the plan or the tenant itself has `feature`."""
        return feature in self.plan.features or feature in self.features


class TenantDirectory(Protocol):
    """A source of tenants. The control plane has one; an application can provide its own."""

    async def find(self, tenant_id: str) -> Tenant | None:
        """Returns the tenant in any status; None if that id never existed.

        Its `id` must equal `tenant_id` to the letter. Another tenant counts as not found.
        """

    async def find_many(self, tenant_ids: Collection[str]) -> Sequence[Tenant]:
        """Returns the tenants that exist, in any status and in any order."""

    async def page(
        self,
        *,
        after: str | None = None,
        limit: int,
        statuses: Collection[TenantStatus] | None = None,
        time_zones: Collection[str] | None = None,
    ) -> Sequence[Tenant]:
        """Returns one page of tenants, ordered by id.

        Args:
            after: the page starts after this id; None starts at the first tenant.
            limit: the size of the page, in tenants.
            statuses: the statuses to include; None includes all but `DELETED`.
            time_zones: IANA names; None includes every time zone.
        """


async def pages(
    directory: TenantDirectory,
    *,
    statuses: Collection[TenantStatus] | None = None,
    time_zones: Collection[str] | None = None,
) -> AsyncIterator[Sequence[Tenant]]:
    """Yields every page of `TenantDirectory.page`, 1,000 tenants each, until there are no more."""
    after: str | None = None
    while page := await directory.page(
        after=after, limit=PAGE_SIZE, statuses=statuses, time_zones=time_zones
    ):
        after = page[-1].id
        yield page


def outside_own_scope(tenant_id: str) -> AbstractContextManager[None]:
    """Leaves the tenant's scope if it is that of `tenant_id`; otherwise does nothing.

    For directories: code in a tenant's scope may look up its own tenant, as the platform.
    """
    scope = current_scope()
    own = isinstance(scope, TenantScope) and scope.tenant_id == tenant_id
    return _outside() if own else nullcontext()


@dataclass
class _Question:
    """A pending lookup that several callers share, and the task that answers it."""

    loop: asyncio.AbstractEventLoop
    tenant_ids: set[str]
    answer: asyncio.Task[Mapping[str, Tenant]] = field(init=False)


@dataclass
class CachedDirectory:
    """Caches the tenants of a directory in memory, for at most `seconds`.

    Only tenants that exist are cached, so a tenant that has just been added is found at once.

    Args:
        directory: where tenants are looked up.
        seconds: how long an entry is valid, 0 to 5.
        clock: returns the current time in seconds.

    Raises:
        ValueError: `seconds` is out of range.
    """

    directory: TenantDirectory
    seconds: float = STATE_CACHE_SECONDS
    clock: Callable[[], float] = time.monotonic
    _found: dict[str, tuple[float, Tenant]] = field(default_factory=dict, init=False)
    _asked: _Question | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if not 0 <= self.seconds <= STATE_CACHE_SECONDS:
            raise ValueError(
                f"a tenant's state can be cached for 0 to {STATE_CACHE_SECONDS:.0f} s, "
                f"not {self.seconds} s."
            )

    async def find(self, tenant_id: str) -> Tenant | None:
        """Like `TenantDirectory.find`, but the result may be up to `seconds` old.

        Concurrent calls share one lookup: a hundred children of a fan-out that start together
        cost one query.
        """
        may_exist(tenant_id)  # raises for what is no text
        known = self._found.get(tenant_id)
        if known is not None and self.clock() - known[0] < self.seconds:
            return known[1]
        loop = asyncio.get_running_loop()
        question = self._asked
        if question is None or question.loop is not loop:
            question = self._asked = _Question(loop, {tenant_id})
            with _outside():  # the lookup serves several tenants, so it runs in no tenant's scope
                question.answer = loop.create_task(self._ask(question))
        question.tenant_ids.add(tenant_id)
        # If one caller is cancelled, the others still get the answer.
        return (await asyncio.shield(question.answer)).get(tenant_id)

    async def _ask(self, question: _Question) -> Mapping[str, Tenant]:
        await asyncio.sleep(0)  # lets other tasks that are ready join this lookup
        if self._asked is question:
            self._asked = None  # later calls start a new lookup
        now = self.clock()
        tenants = await self._look_up(question.tenant_ids)
        found = {tenant.id: tenant for tenant in tenants}
        for tenant_id in question.tenant_ids - found.keys():
            self._found.pop(tenant_id, None)
        self._remember(now, tenants)
        return found

    async def find_many(self, tenant_ids: Collection[str]) -> Sequence[Tenant]:
        """Like `TenantDirectory.find_many`; always queries, and caches the result for `find`.

        Most tenants of a fan-out start within seconds of this lookup.
        """
        for tenant_id in tenant_ids:
            may_exist(tenant_id)  # raises for what is no text
        now = self.clock()
        tenants = await self._look_up(tenant_ids)
        self._remember(now, tenants)
        return tenants

    async def _look_up(self, tenant_ids: Collection[str]) -> Sequence[Tenant]:
        """Drops a tenant that was not asked for: a database may find `7` for `07`."""
        asked = frozenset(tenant_ids)
        return [
            tenant for tenant in await self.directory.find_many(tenant_ids) if tenant.id in asked
        ]

    async def page(
        self,
        *,
        after: str | None = None,
        limit: int,
        statuses: Collection[TenantStatus] | None = None,
        time_zones: Collection[str] | None = None,
    ) -> Sequence[Tenant]:
        """Like `TenantDirectory.page`; always queries and does not cache the result."""
        return await self.directory.page(
            after=after, limit=limit, statuses=statuses, time_zones=time_zones
        )

    def _remember(self, asked: float, tenants: Sequence[Tenant]) -> None:
        if len(self._found) + len(tenants) > STATE_CACHE_TENANTS:
            self._found.clear()
        for tenant in tenants:
            known = self._found.get(tenant.id)
            if known is None or known[0] <= asked:  # answers can arrive out of order
                self._found[tenant.id] = (asked, tenant)


_current: Final[ScopedValue[TenantDirectory]] = ScopedValue(
    "temporal_tenancy_directory", "the directory"
)
_record: Final[ScopedValue[Tenant]] = ScopedValue("temporal_tenancy_record", "the tenant's record")


def use_directory(directory: TenantDirectory) -> AbstractContextManager[TenantDirectory]:
    """Returns a context manager in which `current_directory()` returns `directory`."""
    return _current.provide(directory)


def current_directory() -> TenantDirectory:
    """Returns the directory of the running platform activity.

    A tenant's activity has `current_tenant_record()` instead, as it must not see other tenants.

    Raises:
        ScopeMissing: this code does not run in a platform activity, or that activity has ended.
    """
    directory = _current.get()
    if directory is None:
        raise ScopeMissing(
            "no tenant directory is available here. Call current_directory() in a platform "
            "activity, on a worker with TenancyPlugin(directory=...)."
        )
    return directory


def require_record(value: object) -> Tenant:
    """Returns `value` if it is a tenant's record.

    Raises:
        TenantMissing: it is None, which a directory returns for an id that it does not have.
        TenantInvalid: it is anything else, such as an id.
    """
    if value is None:
        raise TenantMissing(
            "no tenant is given. A directory returns None for an id that it does not have: check "
            "for it."
        )
    if not isinstance(value, Tenant):
        raise TenantInvalid(
            f"a Tenant is needed here, and this is a {type(value).__name__}. Look the tenant up in "
            "the directory."
        )
    return value


def use_tenant_record(tenant: Tenant) -> AbstractContextManager[Tenant]:
    """Returns a context manager in which `current_tenant_record()` returns `tenant`."""
    return _record.provide(tenant)


def current_tenant_record() -> Tenant:
    """Returns the directory's record of the tenant that this activity works for.

    The record was at most 5 s old when the activity started.

    Raises:
        ScopeMissing: this code does not run in a tenant's activity, or that activity has ended.
    """
    tenant = _record.get()
    if tenant is None:
        raise ScopeMissing(
            "no tenant record is available here. Call current_tenant_record() in a tenant activity."
        )
    return tenant


def record_of_this_activity() -> Tenant | None:
    """Returns the record of the tenant that this activity works for; None outside of one."""
    return _record.peek()


def plan_of_this_activity(tenant_id: str) -> Plan | None:
    """Returns the plan of `tenant_id` if this activity works for it; None otherwise."""
    record = record_of_this_activity()
    return None if record is None or record.id != tenant_id else record.plan


def placed_record_of_this_activity(tenant_id: str) -> Tenant | None:
    """Returns the record of `tenant_id` if this activity works for it and it says where its rows
    are; a directory of the application's own does not know."""
    record = record_of_this_activity()
    if record is None or record.id != tenant_id or "isolation" not in record.model_fields_set:
        return None
    return record
