"""How the library knows tenants: a small protocol, and a short cache in front of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Protocol

from pydantic import BaseModel, ConfigDict, Field

from temporal_tenancy.core.errors import ScopeMissing
from temporal_tenancy.core.held import Held
from temporal_tenancy.core.identifiers import TenantId
from temporal_tenancy.core.scope import _outside

STATE_CACHE_SECONDS: Final = 5.0  # the longest that a change of status may go unnoticed
PAGE_SIZE: Final = 1_000  # tenants read at once, where all are gone through
STATE_CACHE_TENANTS: Final = 10_000  # entries; the cache is emptied when it is full


class TenantStatus(StrEnum):
    """Where a tenant is in its life."""

    TRIAL = "trial"  # may run jobs, until the trial ends
    ACTIVE = "active"  # may run jobs
    SUSPENDED = "suspended"  # may not, until it is resumed
    OFFBOARDING = "offboarding"  # is leaving: only jobs that say so still run
    DELETED = "deleted"  # is gone; the row is kept so that its id is not given away again


RUNNABLE: Final = frozenset({TenantStatus.TRIAL, TenantStatus.ACTIVE})
"""The statuses in which a tenant's jobs run unless the job says otherwise."""


class Plan(BaseModel):
    """A tier: what its tenants may use, and their share."""

    model_config = ConfigDict(frozen=True)

    id: str
    fairness_weight: float = Field(default=1.0, ge=0.001, le=1000)  # Temporal's own bounds
    concurrency_cap: int | None = Field(default=None, ge=1)  # jobs at once; None: no cap
    rate_limits: dict[str, float] = {}  # calls a second, by the name of what is called
    features: frozenset[str] = frozenset()
    retention_days: int | None = Field(default=None, ge=1)  # None: kept without limit


class Tenant(BaseModel):
    """A customer organisation."""

    model_config = ConfigDict(frozen=True)

    id: TenantId
    name: str
    status: TenantStatus
    status_since: datetime
    plan: Plan
    features: frozenset[str] = frozenset()  # beyond those of the plan
    time_zone: str = "UTC"  # an IANA name
    settings: dict[str, Any] = {}  # JSON, whatever the application keeps for a tenant
    trial_ends_at: datetime | None = None  # aware; None: no end is set

    def has_feature(self, feature: str) -> bool:
        """Whether the plan or the tenant itself has `feature`."""
        return feature in self.plan.features or feature in self.features


class TenantDirectory(Protocol):
    """Where tenants are looked up. The control plane has one; an application may bring its own."""

    async def find(self, tenant_id: str) -> Tenant | None:
        """Returns the tenant, whatever its status; None when there has never been one."""

    async def find_many(self, tenant_ids: Collection[str]) -> Sequence[Tenant]:
        """Returns those of the tenants that there are, whatever their status, in any order."""

    async def page(
        self,
        *,
        after: str | None = None,
        limit: int,
        statuses: Collection[TenantStatus] | None = None,
        time_zones: Collection[str] | None = None,
    ) -> Sequence[Tenant]:
        """Returns up to `limit` tenants in order of their ids, from behind `after`.

        Deleted tenants are left out unless `statuses` asks for them. With `time_zones` (IANA
        names) only the tenants there are returned.
        """


async def pages(
    directory: TenantDirectory,
    *,
    statuses: Collection[TenantStatus] | None = None,
    time_zones: Collection[str] | None = None,
) -> AsyncIterator[Sequence[Tenant]]:
    """Yields all tenants that `TenantDirectory.page` returns for these, a page at a time."""
    after: str | None = None
    while page := await directory.page(
        after=after, limit=PAGE_SIZE, statuses=statuses, time_zones=time_zones
    ):
        after = page[-1].id
        yield page


@dataclass
class _Question:
    """What is about to be asked of a directory, and the answer to be."""

    loop: asyncio.AbstractEventLoop
    tenant_ids: set[str]
    answer: asyncio.Task[Mapping[str, Tenant]] = field(init=False)


@dataclass
class CachedDirectory:
    """Remembers what a directory found for at most `seconds`, so that a check costs nothing.

    Only tenants that were found are remembered, also by `find_many`: a tenant that has just been
    added is known at once.
    """

    directory: TenantDirectory
    seconds: float = STATE_CACHE_SECONDS
    clock: Callable[[], float] = time.monotonic
    _found: dict[str, tuple[float, Tenant]] = field(default_factory=dict, init=False)
    _asked: _Question | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if not 0 <= self.seconds <= STATE_CACHE_SECONDS:
            raise ValueError(
                f"a tenant's state is cached for {STATE_CACHE_SECONDS:.0f} s at most, "
                f"not {self.seconds} s."
            )

    async def find(self, tenant_id: str) -> Tenant | None:
        """As `TenantDirectory.find`, at most `seconds` old.

        What is asked for in the same moment is one question to the directory: a hundred children
        of a fan-out that start together are one query, and not a hundred.
        """
        known = self._found.get(tenant_id)
        if known is not None and self.clock() - known[0] < self.seconds:
            return known[1]
        loop = asyncio.get_running_loop()
        question = self._asked
        if question is None or question.loop is not loop:
            question = self._asked = _Question(loop, {tenant_id})
            with _outside():  # it is asked for several tenants, and so for none of them
                question.answer = loop.create_task(self._ask(question))
        question.tenant_ids.add(tenant_id)
        # One who asked too may be cancelled; the others wait for the answer still.
        return (await asyncio.shield(question.answer)).get(tenant_id)

    async def _ask(self, question: _Question) -> Mapping[str, Tenant]:
        await asyncio.sleep(0)  # lets everyone ask who is about to
        if self._asked is question:
            self._asked = None  # from now on it is another question
        now = self.clock()
        tenants = await self.directory.find_many(question.tenant_ids)
        found = {tenant.id: tenant for tenant in tenants}
        for tenant_id in question.tenant_ids - found.keys():
            self._found.pop(tenant_id, None)
        self._remember(now, tenants)
        return found

    async def find_many(self, tenant_ids: Collection[str]) -> Sequence[Tenant]:
        """As `TenantDirectory.find_many`, always asked anew.

        Most tenants of a fan-out run within seconds of being looked up: `find` then has them.
        """
        now = self.clock()
        tenants = await self.directory.find_many(tenant_ids)
        self._remember(now, tenants)
        return tenants

    async def page(
        self,
        *,
        after: str | None = None,
        limit: int,
        statuses: Collection[TenantStatus] | None = None,
        time_zones: Collection[str] | None = None,
    ) -> Sequence[Tenant]:
        """As `TenantDirectory.page`, always asked anew; what it returns is not remembered."""
        return await self.directory.page(
            after=after, limit=limit, statuses=statuses, time_zones=time_zones
        )

    def _remember(self, asked: float, tenants: Sequence[Tenant]) -> None:
        if len(self._found) + len(tenants) > STATE_CACHE_TENANTS:
            self._found.clear()
        for tenant in tenants:
            known = self._found.get(tenant.id)
            if known is None or known[0] <= asked:  # an answer may be overtaken by a later one
                self._found[tenant.id] = (asked, tenant)


_current: Final[Held[TenantDirectory]] = Held("temporal_tenancy_directory", "the directory")
_record: Final[Held[Tenant]] = Held("temporal_tenancy_record", "the tenant's record")


def use_directory(directory: TenantDirectory) -> AbstractContextManager[TenantDirectory]:
    """Makes `directory` the one that `current_directory()` returns inside the block."""
    return _current.during(directory)


def current_directory() -> TenantDirectory:
    """The directory of the running platform activity; raises `ScopeMissing` elsewhere.

    A tenant's code has `current_tenant_record()`: the others are none of its business.
    """
    directory = _current.get()
    if directory is None:
        raise ScopeMissing(
            "no directory of tenants is in use here. It is for platform activities of a worker "
            "whose plugin has one: TenancyPlugin(directory=...)."
        )
    return directory


def use_tenant_record(tenant: Tenant) -> AbstractContextManager[Tenant]:
    """Makes `tenant` the one that `current_tenant_record()` returns inside the block."""
    return _record.during(tenant)


def current_tenant_record() -> Tenant:
    """What the directory says of the tenant that this activity works for, at most 5 s old.

    Raises `ScopeMissing` outside a tenant's activity, also behind its end.
    """
    tenant = _record.get()
    if tenant is None:
        raise ScopeMissing("no tenant's record is known here: it is for tenant activities.")
    return tenant
