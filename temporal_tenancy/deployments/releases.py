"""Releases: worker versions that some tenants get before the others."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from sqlalchemy import Select, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError, ProgrammingError
from temporalio.common import WorkerDeploymentVersion

from temporal_tenancy.control_plane.tables import ReleaseRow, ReleaseState
from temporal_tenancy.core.directory import STATE_CACHE_SECONDS, TenantDirectory
from temporal_tenancy.core.errors import TenancyError
from temporal_tenancy.core.scope import _outside
from temporal_tenancy.core.tenant_state import unknown
from temporal_tenancy.postgres import locks
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.postgres.database_errors import DatabaseProblem

LOCK: Final = "releases"  # of changes, which are compared with the other releases
LONGEST_READ: Final = 5.0  # seconds that a start waits for the database
NAMED: Final = 3  # tenants that a sentence names
_NO_TABLE: Final = "42P01"  # SQLSTATE

log: Final = logging.getLogger(__name__)


class ReleaseInvalid(TenancyError):
    """The release has no tenants, more tenants than there are, or impossible bounds."""


class ReleaseUnknown(TenancyError):
    """There is no such release, or it has ended."""


class TenantInTwoCohorts(TenancyError):
    """A tenant would get two worker versions at once."""


@dataclass(frozen=True)
class Cohort:
    """The tenants that get a version first: some by name, or a share of all."""

    tenants: frozenset[str] | None = None
    share: float | None = None  # above 0 and at most 1

    def __post_init__(self) -> None:
        if (self.tenants is None) == (self.share is None):
            raise ReleaseInvalid("a release is for tenants by name or for a share of all.")
        if self.tenants is not None and not self.tenants:
            raise ReleaseInvalid("the release names no tenant.")
        if self.share is not None and not 0 < self.share <= 1:
            raise ReleaseInvalid(
                f"a share is above 0 % and at most 100 %, and this is {self.share:.4%}."
            )

    def has(self, tenant_id: str, build_id: str) -> bool:
        """Whether a tenant gets `build_id` first.

        A share takes each tenant by SHA-256 of the version and its id: the same tenants each time,
        with a larger share also those of the smaller one, and others for another version.
        """
        if self.share is None:
            return tenant_id in (self.tenants or ())
        digest = hashlib.sha256(f"{build_id}\0{tenant_id}".encode()).digest()
        return int.from_bytes(digest[:8], "big") < self.share * 2**64

    def __str__(self) -> str:
        if self.share is not None:
            return f"{self.share * 100:.4g} % of the tenants"
        names = sorted(self.tenants or ())
        more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
        return ", ".join(names[:NAMED]) + more


@dataclass(frozen=True)
class Bounds:
    """How much worse than the other versions a release may be before it is halted."""

    max_failures: float = 0.1  # more failed runs, as a share of the runs
    max_slowdown: float = 3.0  # times as long, by the median of a job
    min_runs: int = 5  # before anything is compared

    def __post_init__(self) -> None:
        if not 0 < self.max_failures <= 1 or self.max_slowdown <= 1 or self.min_runs < 1:
            raise ReleaseInvalid(
                "a release is halted at a share of failures above 0 % and at most 100 %, at a "
                "slowdown above 1, and after at least 1 run."
            )


@dataclass(frozen=True)
class Release:
    """The release of a worker version to its cohort."""

    deployment: str
    build_id: str
    state: ReleaseState
    cohort: Cohort
    bounds: Bounds
    began_at: datetime  # aware
    ended_at: datetime | None  # aware
    reason: str | None  # why it was halted or ended
    changed_by: str

    @property
    def version(self) -> WorkerDeploymentVersion:
        """The worker version."""
        return WorkerDeploymentVersion(self.deployment, self.build_id)

    @property
    def is_ramping(self) -> bool:
        """Whether its tenants' runs start on the version."""
        return self.state is ReleaseState.RAMPING

    def has(self, tenant_id: str) -> bool:
        """Whether runs of a tenant start on the version now."""
        return self.is_ramping and self.cohort.has(tenant_id, self.build_id)


class Releases:
    """The table `releases`. Processes apply a change within 5 s.

    Every method runs as the platform.

    Raises:
        ScopeMissing: a method was called in a tenant's scope.
    """

    def __init__(self, database: Database) -> None:
        """`database` is the one with the control plane's tables."""
        self._database = database

    async def all(self) -> Sequence[Release]:
        """Returns all releases, the latest first; none if the table is not there yet."""
        return await self._read(select(ReleaseRow))

    async def ramping(self) -> Sequence[Release]:
        """Returns the releases that are ramping; none if the table is not there yet."""
        return await self._read(select(ReleaseRow).where(ReleaseRow.state == ReleaseState.RAMPING))

    async def _read(self, query: Select[ReleaseRow]) -> Sequence[Release]:
        query = query.order_by(ReleaseRow.began_at.desc())
        try:
            async with self._database.platform_session("read the releases") as session:
                return [_release(row) for row in await session.scalars(query)]
        except ProgrammingError as error:
            if getattr(error.orig, "sqlstate", None) != _NO_TABLE:
                raise
            return []  # of the database of an earlier release, which has none

    async def find(self, version: WorkerDeploymentVersion) -> Release | None:
        """Returns the release of a version, or None."""
        async with self._database.platform_session("read a release") as session:
            key = (version.deployment_name, version.build_id)
            row = await session.get(ReleaseRow, key)
            return None if row is None else _release(row)

    async def ramp(
        self,
        version: WorkerDeploymentVersion,
        cohort: Cohort,
        bounds: Bounds,
        *,
        directory: TenantDirectory,
        by: str,
    ) -> Release:
        """Lets the cohort's runs start on `version` from now on.

        Repeating it changes the cohort and the bounds. After the release was halted or ended, it
        begins anew, and earlier runs no longer count.

        Args:
            version: the worker version. Whether it exists is the caller's to check.
            cohort: its tenants.
            bounds: when it is halted.
            directory: where the tenants that the cohort names are looked up.
            by: who asked for it.

        Raises:
            TenantUnknown: the cohort names a tenant that does not exist.
            TenantInTwoCohorts: another version is being released to one of the tenants.
        """
        if cohort.tenants is not None:
            found = {tenant.id for tenant in await directory.find_many(sorted(cohort.tenants))}
            for missing in sorted(cohort.tenants - found):
                raise unknown(missing)
        values = {
            "state": ReleaseState.RAMPING,
            "tenants": None if cohort.tenants is None else sorted(cohort.tenants),
            "share": cohort.share,
            "max_failures": bounds.max_failures,
            "max_slowdown": bounds.max_slowdown,
            "min_runs": bounds.min_runs,
            "ended_at": None,
            "reason": None,
            "changed_by": by,
        }
        key = {"deployment": version.deployment_name, "build_id": version.build_id}
        async with self._database.platform_session("ramp a release") as session:
            await locks.take(session, LOCK)
            ramping = select(ReleaseRow).where(ReleaseRow.state == ReleaseState.RAMPING)
            others = [_release(row) for row in await session.scalars(ramping)]
            _refuse_two_cohorts(version, cohort, others)
            goes_on = any(other.version == version for other in others)
            begun = {} if goes_on else {"began_at": func.now()}
            statement = insert(ReleaseRow).values(**key, **values)
            changed = statement.on_conflict_do_update(
                index_elements=list(key), set_=values | begun
            ).returning(ReleaseRow)
            row = (await session.scalars(changed, execution_options=_FRESH)).one()
            return _release(row)

    async def end(
        self,
        version: WorkerDeploymentVersion,
        state: ReleaseState,
        *,
        reason: str | None,
        by: str,
        only_ramping: bool = False,
    ) -> Release | None:
        """Ends a release, so that its tenants' runs start on the current version.

        Args:
            version: of the release.
            state: how it ended.
            reason: why, for people.
            by: who ended it.
            only_ramping: leave a release that was halted or has ended as it is.

        Returns:
            The release, or None if there is none to end.
        """
        ends = [ReleaseState.RAMPING] if only_ramping else [*_OPEN]
        statement = (
            update(ReleaseRow)
            .where(
                ReleaseRow.deployment == version.deployment_name,
                ReleaseRow.build_id == version.build_id,
                ReleaseRow.state.in_(ends),
            )
            .values(state=state, ended_at=func.now(), reason=reason, changed_by=by)
            .returning(ReleaseRow)
        )
        async with self._database.platform_session("end a release") as session:
            await locks.take(session, LOCK)
            row = (await session.scalars(statement, execution_options=_FRESH)).one_or_none()
            return None if row is None else _release(row)


_OPEN: Final = (ReleaseState.RAMPING, ReleaseState.HALTED)
_FRESH: Final = {"populate_existing": True}


def _refuse_two_cohorts(
    version: WorkerDeploymentVersion, cohort: Cohort, others: Sequence[Release]
) -> None:
    """Raises `TenantInTwoCohorts` if a tenant of the cohort is in that of another version."""
    for other in others:
        if other.version == version:
            continue
        its = f"version {other.build_id} of {other.deployment}"
        end = "End that release first, or leave the tenant out."
        if cohort.share is not None and other.cohort.share is not None:
            raise TenantInTwoCohorts(
                f"{its} has {other.cohort}, and a tenant can be in both shares. End that release "
                "first, or name the tenants."
            )
        if cohort.tenants is not None:
            both = [tenant for tenant in sorted(cohort.tenants) if other.has(tenant)]
        else:
            named = sorted(other.cohort.tenants or ())
            both = [tenant for tenant in named if cohort.has(tenant, version.build_id)]
        if both:
            raise TenantInTwoCohorts(f"{both[0]} gets {its} already. {end}")


def _release(row: ReleaseRow) -> Release:
    tenants = None if row.tenants is None else frozenset(row.tenants)
    return Release(
        deployment=row.deployment,
        build_id=row.build_id,
        state=ReleaseState(row.state),
        cohort=Cohort(tenants, row.share),
        bounds=Bounds(row.max_failures, row.max_slowdown, row.min_runs),
        began_at=row.began_at,
        ended_at=row.ended_at,
        reason=row.reason,
        changed_by=row.changed_by,
    )


@dataclass
class ReleasedVersions:
    """The worker versions on which tenants' runs start, read at most every `seconds`.

    If the database does not answer, there are no releases, and all start on the current version.

    Args:
        database: the one with the control plane's tables.
        seconds: how long what was read is valid.
        clock: returns the current time in seconds.
    """

    database: Database
    seconds: float = STATE_CACHE_SECONDS
    clock: Callable[[], float] = time.monotonic
    _known: tuple[float, Sequence[Release]] | None = field(default=None, init=False)
    _asked: tuple[asyncio.AbstractEventLoop, asyncio.Task[Sequence[Release]]] | None = field(
        default=None, init=False
    )

    async def version_of(self, tenant_id: str) -> WorkerDeploymentVersion | None:
        """Returns the version that a release gives a tenant; None: the current one.

        Concurrent calls share one query. It may be called in the tenant's own scope.
        """
        for release in await self.ramping():
            if release.has(tenant_id):
                return release.version
        return None

    async def ramping(self) -> Sequence[Release]:
        """Returns the releases that are ramping."""
        if self._known is not None and self.clock() - self._known[0] < self.seconds:
            return self._known[1]
        loop = asyncio.get_running_loop()
        if self._asked is None or self._asked[0] is not loop or self._asked[1].done():
            with _outside():  # the answer is for all tenants
                self._asked = loop, loop.create_task(self._read())
        # If one caller is cancelled, the others still get the answer.
        return await asyncio.shield(self._asked[1])

    async def _read(self) -> Sequence[Release]:
        now = self.clock()
        try:
            async with asyncio.timeout(LONGEST_READ):
                found = await Releases(self.database).ramping()
        except (DatabaseProblem, DBAPIError, TimeoutError) as error:
            # The current version is right for everybody, so a start does not wait for this.
            log.warning("releases.unread", extra={"error_type": type(error).__name__})
            found = []
        self._known = now, found
        return found
