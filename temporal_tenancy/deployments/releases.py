"""Releases: worker versions that some tenants get before the others."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from sqlalchemy import Select, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import ProgrammingError
from temporalio.common import WorkerDeploymentVersion

from temporal_tenancy.control_plane.tables import ReleaseRow, ReleaseState
from temporal_tenancy.core.directory import RUNNABLE, TenantDirectory, pages
from temporal_tenancy.core.errors import TenancyError
from temporal_tenancy.core.tenant_state import unknown
from temporal_tenancy.postgres import locks
from temporal_tenancy.postgres.database import Database

LOCK: Final = "releases"  # of changes, which are compared with the other releases
NAMED: Final = 3  # tenants that a sentence names
SLOWEST: Final = 1_000.0  # times as long as the others: the highest bound of a slowdown
MOST: Final = 1_000_000  # runs or tenants: the highest bound of either
_EARLIER: Final = ("42P01", "42703")  # SQLSTATE: no such table, no such column

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
        if self.tenants is not None and not (self.tenants and all(self.tenants)):
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


class _Nobody(Cohort):
    """The cohort of a row that names no possible one."""

    def __post_init__(self) -> None: ...

    def has(self, tenant_id: str, build_id: str) -> bool:
        return False

    def __str__(self) -> str:
        return "nobody"


_NOBODY: Final[Cohort] = _Nobody(frozenset())


@dataclass(frozen=True)
class Bounds:
    """How much worse than the other versions a release may be before it is halted."""

    max_failures: float = 0.1  # more tenants with a failed run, as a share of the tenants
    max_slowdown: float = 3.0  # times as long, by the median of a job; at most `SLOWEST`
    min_runs: int = 5  # before anything is compared
    min_tenants: int = 2  # with a failed run, so that one customer halts no release

    def __post_init__(self) -> None:
        # A comparison with NaN is false.
        possible = 0 < self.max_failures <= 1 and 1 < self.max_slowdown <= SLOWEST
        if not possible or not all(
            1 <= least <= MOST for least in (self.min_runs, self.min_tenants)
        ):
            raise ReleaseInvalid(
                "a release is halted at a share of failures above 0 % and at most 100 %, at a "
                f"slowdown above 1 and at most {SLOWEST:,.0f}, and after 1 to {MOST:,} runs and "
                "tenants."
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
    queues: frozenset[str] | None = None  # that it is for; None: an earlier release did not say
    odd: str | None = None  # what is impossible about its row, so that it is for nobody
    # The version's release until `ramp` made this one, whatever its state.
    replaced: Release | None = field(default=None, compare=False)

    @property
    def version(self) -> WorkerDeploymentVersion:
        """The worker version."""
        return WorkerDeploymentVersion(self.deployment, self.build_id)

    @property
    def is_ramping(self) -> bool:
        """Whether its tenants' runs start on the version."""
        return self.state is ReleaseState.RAMPING

    def serves(self, queue: str) -> bool:
        """Whether the version's workers served a task queue when the release was made."""
        return self.queues is None or queue in self.queues

    def has(self, tenant_id: str, queue: str) -> bool:
        """Whether a tenant's runs on a task queue start on the version now."""
        return self.is_ramping and self.serves(queue) and self._is_for(tenant_id)

    def _is_for(self, tenant_id: str) -> bool:
        return self.odd is None and self.cohort.has(tenant_id, self.build_id)

    def _meets(self, deployment: str, queues: frozenset[str] | None) -> bool:
        """Whether a run could be this release's and one of `deployment` on `queues`."""
        if self.deployment == deployment or self.queues is None or queues is None:
            return True
        return bool(self.queues & queues)


class Releases:
    """The table `releases`. Processes apply a change within 5 s.

    A row that no release can have, such as one that was written by hand, is for nobody: it is
    logged, and has `Release.odd`.

    Every method runs as the platform.

    Raises:
        ScopeMissing: a method was called in a tenant's scope.
    """

    def __init__(self, database: Database) -> None:
        """`database` is the one with the control plane's tables."""
        self._database = database

    async def all(self) -> Sequence[Release]:
        """Returns all releases, the latest first; none if its migration has not run."""
        return await self._read(select(ReleaseRow))

    async def ramping(self) -> Sequence[Release]:
        """Returns the releases that are ramping; none if their migration has not run."""
        found = await self._read(select(ReleaseRow).where(ReleaseRow.state == ReleaseState.RAMPING))
        return [release for release in found if release.odd is None]

    async def _read(self, query: Select[ReleaseRow]) -> Sequence[Release]:
        query = query.order_by(ReleaseRow.began_at.desc())
        try:
            async with self._database.platform_session("read the releases") as session:
                return [_release(row) for row in await session.scalars(query)]
        except ProgrammingError as error:
            if getattr(error.orig, "sqlstate", None) not in _EARLIER:
                raise
            return []  # of the database of an earlier release

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
        queues: Iterable[str] | None = None,
    ) -> Release:
        """Lets the cohort's runs start on `version` from now on.

        Repeating it changes the cohort and the bounds. After the release was halted or ended, it
        begins anew, and earlier runs no longer count. `Release.replaced` is what it was before.

        A cohort of fewer tenants than `min_tenants` would never be halted for failures, so the
        bound becomes their number. Tenants that may not run jobs do not count.

        Args:
            version: the worker version. Whether it exists is the caller's to check.
            cohort: its tenants.
            bounds: when it is halted.
            directory: where the tenants that the cohort names are looked up.
            by: who asked for it.
            queues: the task queues that the version's workers serve; runs on others start as
                before. None: all.

        Raises:
            TenantUnknown: the cohort names a tenant that does not exist.
            ReleaseInvalid: no tenant that may run jobs is in the share.
            TenantInTwoCohorts: another version is being released to one of the tenants.
        """
        least = await _least(directory, version.build_id, cohort, bounds.min_tenants)
        served = None if queues is None else frozenset(queues)
        values = {
            "state": ReleaseState.RAMPING,
            "tenants": None if cohort.tenants is None else sorted(cohort.tenants),
            "share": cohort.share,
            "max_failures": bounds.max_failures,
            "max_slowdown": bounds.max_slowdown,
            "min_runs": bounds.min_runs,
            "min_tenants": least,
            "queues": None if served is None else sorted(served),
            "ended_at": None,
            "reason": None,
            "changed_by": by,
        }
        key = {"deployment": version.deployment_name, "build_id": version.build_id}
        async with self._database.platform_session("ramp a release") as session:
            await locks.take(session, LOCK)
            ramping = select(ReleaseRow).where(ReleaseRow.state == ReleaseState.RAMPING)
            others = [_release(row) for row in await session.scalars(ramping)]
            _refuse_two_cohorts(version, cohort, served, others)
            key_of = (version.deployment_name, version.build_id)
            row = await session.get(ReleaseRow, key_of, populate_existing=True)
            replaced = None if row is None else _release(row)
            goes_on = replaced is not None and replaced.is_ramping
            begun = {} if goes_on else {"began_at": func.now()}
            statement = insert(ReleaseRow).values(**key, **values)
            changed = statement.on_conflict_do_update(
                index_elements=list(key), set_=values | begun
            ).returning(ReleaseRow)
            made = (await session.scalars(changed, execution_options=_FRESH)).one()
            return replace(_release(made), replaced=replaced)

    async def take_back(
        self, version: WorkerDeploymentVersion, *, reason: str | None, by: str
    ) -> Release:
        """Records that a version which was current was rolled back; returns its release.

        A version that had none, because everybody got it at once, gets one.
        """
        values = {
            "state": ReleaseState.ROLLED_BACK,
            "ended_at": func.now(),
            "reason": reason,
            "changed_by": by,
        }
        bounds = Bounds()
        made = insert(ReleaseRow).values(
            deployment=version.deployment_name,
            build_id=version.build_id,
            share=1.0,
            max_failures=bounds.max_failures,
            max_slowdown=bounds.max_slowdown,
            min_runs=bounds.min_runs,
            **values,
        )
        statement = made.on_conflict_do_update(
            index_elements=["deployment", "build_id"], set_=values
        ).returning(ReleaseRow)
        async with self._database.platform_session("take a version back") as session:
            await locks.take(session, LOCK)
            return _release((await session.scalars(statement, execution_options=_FRESH)).one())

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
            reason: why, for people. None leaves the reason of a halt as it is.
            by: who ended it.
            only_ramping: leave a release that was halted as it is. One that has ended stays as
                it is, unless `state` is `PROMOTED`.

        Returns:
            The release, or None if there is none to end.
        """
        ends = [ReleaseState.RAMPING] if only_ramping else [*_ENDS.get(state, _OPEN)]
        is_good = state is ReleaseState.PROMOTED
        why = reason if is_good else func.coalesce(reason, ReleaseRow.reason)
        statement = (
            update(ReleaseRow)
            .where(
                ReleaseRow.deployment == version.deployment_name,
                ReleaseRow.build_id == version.build_id,
                ReleaseRow.state.in_(ends),
            )
            .values(state=state, ended_at=func.now(), reason=why, changed_by=by)
            .returning(ReleaseRow)
        )
        async with self._database.platform_session("end a release") as session:
            await locks.take(session, LOCK)
            row = (await session.scalars(statement, execution_options=_FRESH)).one_or_none()
            return None if row is None else _release(row)


_OPEN: Final = (ReleaseState.RAMPING, ReleaseState.HALTED)
_ENDS: Final = {ReleaseState.PROMOTED: (*_OPEN, ReleaseState.ROLLED_BACK)}
_FRESH: Final = {"populate_existing": True}


async def _least(
    directory: TenantDirectory, build_id: str, cohort: Cohort, min_tenants: int
) -> int:
    """Returns how many tenants with failed runs halt a release: `min_tenants` or all it has.

    Raises `TenantUnknown` and `ReleaseInvalid`.
    """
    if cohort.tenants is not None:
        found = await directory.find_many(sorted(cohort.tenants))
        for missing in sorted(cohort.tenants - {tenant.id for tenant in found}):
            raise unknown(missing)
        can_run = sum(tenant.status in RUNNABLE for tenant in found)
        return min(min_tenants, max(can_run, 1))
    counted = tenants = 0
    async for page in pages(directory, statuses=RUNNABLE):
        tenants += len(page)
        counted += sum(cohort.has(tenant.id, build_id) for tenant in page)
        if counted >= min_tenants:
            return min_tenants
    if not counted:
        raise ReleaseInvalid(
            f"{cohort} that may run jobs are none of {tenants:,}. Take a larger share, or name "
            "tenants."
        )
    return counted


def _refuse_two_cohorts(
    version: WorkerDeploymentVersion,
    cohort: Cohort,
    queues: frozenset[str] | None,
    others: Sequence[Release],
) -> None:
    """Raises `TenantInTwoCohorts` if a tenant of the cohort is in that of another version.

    Releases of two deployments do not meet if they serve different task queues.
    """
    for other in others:
        if other.version == version or not other._meets(version.deployment_name, queues):
            continue
        its = f"version {other.build_id} of {other.deployment}"
        end = "End that release first, or leave the tenant out."
        if cohort.share is not None and other.cohort.share is not None:
            raise TenantInTwoCohorts(
                f"{its} has {other.cohort}, and a tenant can be in both shares. End that release "
                "first, or name the tenants."
            )
        if cohort.tenants is not None:
            both = [tenant for tenant in sorted(cohort.tenants) if other._is_for(tenant)]
        else:
            named = sorted(other.cohort.tenants or ())
            both = [tenant for tenant in named if cohort.has(tenant, version.build_id)]
        if both:
            raise TenantInTwoCohorts(f"{both[0]} gets {its} already. {end}")


def _release(row: ReleaseRow) -> Release:
    """Returns the release of a row; one that cannot be is for nobody, and logged."""
    odd = None
    tenants = None if row.tenants is None else frozenset(row.tenants)
    cohort: Cohort = _NOBODY
    bounds = Bounds()
    try:
        cohort = Cohort(tenants, row.share)
        bounds = Bounds(row.max_failures, row.max_slowdown, row.min_runs, row.min_tenants)
    except ReleaseInvalid as error:
        odd = str(error)
        log.error(
            "release.odd",
            extra={"deployment": row.deployment, "build_id": row.build_id, "reason": odd},
        )
    return Release(
        deployment=row.deployment,
        build_id=row.build_id,
        state=ReleaseState(row.state),
        cohort=cohort,
        bounds=bounds,
        began_at=row.began_at,
        ended_at=row.ended_at,
        reason=row.reason,
        changed_by=row.changed_by,
        queues=None if row.queues is None else frozenset(row.queues),
        odd=odd,
    )
