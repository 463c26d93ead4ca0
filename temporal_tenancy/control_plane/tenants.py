"""Adds tenants to the control plane and changes their status, as the platform."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from temporal_tenancy.control_plane.directory import ControlPlaneDirectory, tenant_of, tenants
from temporal_tenancy.control_plane.plans import require_plan
from temporal_tenancy.control_plane.tables import TenantRow
from temporal_tenancy.core import identifiers
from temporal_tenancy.core.directory import Tenant, TenantStatus, pages
from temporal_tenancy.core.due_times import zone_of
from temporal_tenancy.core.errors import TenancyError, TenantInvalid
from temporal_tenancy.core.instants import FIRST, LAST, in_utc
from temporal_tenancy.core.stores import Isolation
from temporal_tenancy.core.tenant_id_types import canonical_spelling
from temporal_tenancy.core.tenant_state import unknown
from temporal_tenancy.postgres.database import Database


class TenantExists(TenancyError):
    """Another tenant has this id."""


class TenantExistsInOtherCase(TenancyError):
    """Another tenant's id differs from this one only by case, or is another spelling of it."""


class FeatureUnknown(TenancyError):
    """The tenant has no such feature of its own."""


class TrialEndRefused(TenancyError):
    """This tenant cannot have that end of a trial."""


Placing = Callable[[AsyncSession], Awaitable[tuple[Isolation, str | None]]]
"""Takes a place in a store, in the transaction that adds its tenant; None: the shared store."""


class Tenants:
    """The table `tenants`. Every method runs as the platform.

    Raises:
        ScopeMissing: a method was called in a tenant's scope.
    """

    def __init__(self, database: Database) -> None:
        """
        Args:
            database: the one with the control plane's tables.
        """
        self._database = database

    async def add(
        self,
        tenant_id: str,
        name: str,
        *,
        plan: str,
        status: TenantStatus = TenantStatus.ACTIVE,
        features: Iterable[str] = (),
        time_zone: str = "UTC",
        settings: Mapping[str, Any] | None = None,  # JSON
        trial_ends_at: datetime | date | None = None,
        placing: Placing | None = None,
    ) -> Tenant:
        """Adds a tenant and returns it.

        Args:
            tenant_id: 1 to 63 characters of `A-Za-z0-9_-`; the first is a letter or digit.
            name: the organisation's name, for users.
            plan: the id of a row in `plans`.
            status: the first status.
            features: features in addition to the plan's.
            time_zone: an IANA name.
            settings: JSON, for the application's own use.
            trial_ends_at: the end of a trial: an aware time, or the last day in the tenant's time
                zone. None sets no end.
            placing: takes the tenant's place in a store, as `temporal_tenancy.stores.SignUp` does.
                None: the shared store in this database. If it raises, nothing has been added.

        Raises:
            TenantMissing: the id is empty.
            TenantInvalid: the id is malformed or reserved.
            TenantExists: the id is taken, perhaps by a tenant that has been deleted.
            TenantExistsInOtherCase: an id that differs from this one only by case is taken, or is
                the same value of the declared type in its canonical spelling.
            PlanUnknown: `plan` is not in the table `plans`.
            TimeZoneUnknown: `time_zone` is not an IANA name.
            TrialEndRefused: the tenant is not a trial, or the end has no offset or is out of range.
        """
        await self._require_id(tenant_id)
        ends_at = _trial_end(tenant_id, status, trial_ends_at, zone_of(time_zone))
        async with self._database.platform_session("add a tenant") as session:
            await require_plan(session, plan)
            added = await session.scalar(
                insert(TenantRow)
                .values(
                    id=tenant_id,
                    name=name,
                    status=status,
                    plan_id=plan,
                    features=sorted(set(features)),
                    time_zone=time_zone,
                    settings=dict(settings or {}),
                    trial_ends_at=ends_at,
                )
                .on_conflict_do_nothing()
                .returning(TenantRow.id)
            )
            if added is None:
                raise await _taken(session, tenant_id)
            if placing is not None:
                isolation, store = await placing(session)
                await session.execute(
                    update(TenantRow)
                    .where(TenantRow.id == tenant_id)
                    .values(isolation=isolation, store=store)
                )
            row = (await session.scalars(tenants().where(TenantRow.id == tenant_id))).one()
            return tenant_of(row)

    async def _require_id(self, tenant_id: str) -> None:
        """Raises `TenantInvalid`, or names the tenant that the id is another spelling of."""
        try:
            identifiers.tenant_id(tenant_id)
        except TenantInvalid:
            canonical = canonical_spelling(identifiers.well_formed(tenant_id))
            async with self._database.platform_session("look for another spelling") as session:
                if canonical is None or await session.get(TenantRow, canonical) is None:
                    raise
            raise TenantExistsInOtherCase(
                f'there is already a tenant "{canonical}", and "{tenant_id}" is another spelling '
                "of it. Choose another id."
            ) from None

    async def change(
        self,
        tenant_id: str,
        *,
        name: str | None = None,
        plan: str | None = None,
        time_zone: str | None = None,
        add_features: Iterable[str] = (),
        remove_features: Iterable[str] = (),
    ) -> Tenant:
        """Changes what is given, and returns the tenant; anything else stays as it is.

        Args:
            tenant_id: whose settings.
            name: the organisation's name, for users.
            plan: the id of a row in `plans`.
            time_zone: an IANA name. The end of a trial stays the same instant.
            add_features: features that the tenant gets in addition to its plan's.
            remove_features: of those, which it loses.

        Raises:
            TenantUnknown: there is no such tenant.
            PlanUnknown: `plan` is not in the table `plans`.
            TimeZoneUnknown: `time_zone` is not an IANA name.
            FeatureUnknown: the tenant does not have a feature that it is to lose, or has it from
                its plan.
        """
        _require_possible(tenant_id)
        if time_zone is not None:
            zone_of(time_zone)
        removed = set(remove_features)
        async with self._database.platform_session("change a tenant") as session:
            row = await session.scalar(
                tenants().where(TenantRow.id == tenant_id).with_for_update(of=TenantRow)
            )
            if row is None:
                raise unknown(tenant_id)
            if plan is not None:
                await require_plan(session, plan)
                row.plan_id = plan
                await session.flush()
                await session.refresh(row, ["plan"])
            for feature in sorted(removed - set(row.features)):
                raise _not_its_own(row, feature)
            row.features = sorted((set(row.features) | set(add_features)) - removed)
            if name is not None:
                row.name = name
            if time_zone is not None:
                row.time_zone = time_zone
            await session.flush()
            return tenant_of(row)

    async def set_status(
        self, tenant_id: str, status: TenantStatus, *, reason: str | None = None
    ) -> Tenant:
        """Changes a tenant's status and returns the tenant; the same status changes nothing.

        Raises:
            TenantUnknown: there is no such tenant.
        """
        _require_possible(tenant_id)
        async with self._database.platform_session("change a tenant's status") as session:
            suspends = status is TenantStatus.SUSPENDED
            await session.execute(
                update(TenantRow)
                .where(TenantRow.id == tenant_id, TenantRow.status != status)
                .values(
                    status=status,
                    status_since=datetime.now(UTC),
                    status_reason=reason,
                    resumes_as=TenantRow.status if suspends else None,
                )
            )
            row = await session.scalar(tenants().where(TenantRow.id == tenant_id))
            if row is None:
                raise unknown(tenant_id)
            return tenant_of(row)

    async def resume(self, tenant_id: str) -> Tenant:
        """Restores the previous status of a suspended tenant; leaves any other tenant unchanged.

        Raises:
            TenantUnknown: there is no such tenant.
        """
        _require_possible(tenant_id)
        async with self._database.platform_session("resume a tenant") as session:
            before = await session.scalar(
                select(TenantRow.resumes_as).where(
                    TenantRow.id == tenant_id, TenantRow.status == TenantStatus.SUSPENDED
                )
            )
        directory = ControlPlaneDirectory(self._database)
        tenant = await directory.find(tenant_id)
        if tenant is not None and tenant.status is not TenantStatus.SUSPENDED:
            return tenant
        return await self.set_status(tenant_id, TenantStatus(before or TenantStatus.ACTIVE))

    async def end_trial(self, tenant_id: str, *, plan: str | None, at: datetime) -> Tenant | None:
        """Ends a tenant's trial if its end is not later than `at`.

        The call is safe to repeat with the same `at`.

        Args:
            tenant_id: whose trial.
            plan: the plan on which the tenant becomes active; None suspends it, and it becomes
                active when it is resumed.
            at: aware; the time from which the new status holds.

        Returns:
            The tenant if this call, or an earlier one with the same `at`, ended the trial. None if
            there was no trial to end.

        Raises:
            TenantUnknown: there is no such tenant.
            PlanUnknown: `plan` is not in the table `plans`.
        """
        _require_possible(tenant_id)
        async with self._database.platform_session("end a trial") as session:
            row = await session.scalar(
                tenants().where(TenantRow.id == tenant_id).with_for_update(of=TenantRow)
            )
            if row is None:
                raise unknown(tenant_id)
            is_trial = row.status == TenantStatus.TRIAL
            if not is_trial and row.trial_ends_at is not None and row.status_since == at:
                return tenant_of(row)
            if not is_trial or row.trial_ends_at is None or row.trial_ends_at > at:
                return None
            row.status_since = at
            if plan is None:
                row.status = TenantStatus.SUSPENDED
                row.status_reason = f"the trial ended on {_last_day(row)}"
                row.resumes_as = TenantStatus.ACTIVE
            else:
                await require_plan(session, plan)
                row.status = TenantStatus.ACTIVE
                row.status_reason = None
                row.plan_id = plan
            await session.flush()
            await session.refresh(row, ["plan"])
            return tenant_of(row)

    async def list(
        self, *, statuses: Collection[TenantStatus] | None = None
    ) -> AsyncIterator[Tenant]:
        """Yields tenants ordered by id, read page by page.

        Deleted tenants are left out unless `statuses` includes them.
        """
        async for page in pages(ControlPlaneDirectory(self._database), statuses=statuses):
            for tenant in page:
                yield tenant


def _require_possible(tenant_id: str) -> None:
    """Raises `TenantUnknown` for text that is no tenant's id."""
    if not identifiers.may_exist(tenant_id):
        raise unknown(tenant_id)


async def _taken(session: AsyncSession, tenant_id: str) -> TenancyError:
    """Returns the error for an id that cannot be added, because of a tenant that there is."""
    other = await session.scalar(
        select(TenantRow.id).where(
            func.lower(TenantRow.id) == tenant_id.lower(), TenantRow.id != tenant_id
        )
    )
    if other is not None:
        return TenantExistsInOtherCase(
            f'there is already a tenant "{other}", and "{tenant_id}" differs from it only by case. '
            "Choose another id."
        )
    return TenantExists(
        f'there is already a tenant "{tenant_id}". Choose another id; '
        "the id of a deleted tenant cannot be reused."
    )


def _not_its_own(row: TenantRow, feature: str) -> FeatureUnknown:
    if feature in row.plan.features:
        return FeatureUnknown(
            f"{row.id} has {feature!r} from its plan {row.plan.id}. Choose a plan without it."
        )
    return FeatureUnknown(f"{row.id} has no feature {feature!r} that could be removed.")


def _last_day(row: TenantRow) -> date:
    """Returns the last day of the trial in the tenant's time zone: at midnight, the day before."""
    assert row.trial_ends_at is not None
    end = row.trial_ends_at.astimezone(ZoneInfo(row.time_zone))
    return (end - timedelta(microseconds=1)).date()


def _trial_end(
    tenant_id: str, status: TenantStatus, end: datetime | date | None, zone: ZoneInfo
) -> datetime | None:
    if end is None:
        return None
    if status is not TenantStatus.TRIAL:
        raise TrialEndRefused(
            f"{tenant_id} would be {status}, and only a trial can have an end. "
            "Make it a trial, or leave the end out."
        )
    if isinstance(end, datetime) and end.utcoffset() is None:
        raise TrialEndRefused(
            f"the end of {tenant_id}'s trial has no offset. Give a day in {zone.key}, "
            "or a time with its offset."
        )
    try:
        if not isinstance(end, datetime):
            end = datetime.combine(end + timedelta(days=1), time(), zone)
        return in_utc(end)
    except (ValueError, OverflowError):
        raise TrialEndRefused(
            f"the end of {tenant_id}'s trial must be between {FIRST.date()} and {LAST.date()}. "
            "Give such a day, or make the tenant active."
        ) from None
