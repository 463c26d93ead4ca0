"""Lists the plans, and changes what they say of their tenants, as the platform."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TypedDict, Unpack

from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from temporal_tenancy.control_plane.directory import plan_of
from temporal_tenancy.control_plane.tables import PlanRow
from temporal_tenancy.core.directory import Plan
from temporal_tenancy.core.errors import TenancyError
from temporal_tenancy.core.field_problems import problem_of_field
from temporal_tenancy.core.nearest import did_you_mean
from temporal_tenancy.postgres.database import Database


class PlanUnknown(TenancyError):
    """There is no such plan."""


class PlanRefused(TenancyError):
    """A plan cannot say that."""


class PlanChanges(TypedDict, total=False):
    """What to change of a plan, by the names of its fields; None: it says nothing any more."""

    fairness_weight: float
    concurrency_cap: int | None
    retention_days: int | None
    pool_share: float | None
    statement_timeout: timedelta | None
    lock_timeout: timedelta | None
    idle_timeout: timedelta | None
    transaction_timeout: timedelta | None


class Plans:
    """The table `plans`. Every method runs as the platform."""

    def __init__(self, database: Database) -> None:
        """
        Args:
            database: the one with the control plane's tables.
        """
        self._database = database

    async def list(self) -> Sequence[Plan]:
        """Returns the plans in order of their ids."""
        async with self._database.platform_session("list plans") as session:
            rows = await session.scalars(select(PlanRow).order_by(PlanRow.id))
            return [plan_of(row) for row in rows]

    async def change(
        self,
        plan: str,
        *,
        rates: Mapping[str, float | None] | None = None,
        **changes: Unpack[PlanChanges],
    ) -> Plan:
        """Changes what is given, and returns the plan; anything else stays as it is.

        Processes notice within 5 seconds: sessions that are open keep what they began with.

        Args:
            plan: the id of a row in `plans`.
            rates: calls per second by the name of the service, above 0; None: the plan names none
                any more. Rates of other names stay.
            changes: fields of `Plan`, with their new values.

        Raises:
            PlanUnknown: there is no such plan.
            PlanRefused: a value does not fit.
        """
        async with self._database.platform_session("change a plan") as session:
            await require_plan(session, plan)
            row = await session.get_one(PlanRow, plan, with_for_update=True)
            known = plan_of(row)
            fields: dict[str, object] = dict(changes)
            if rates:
                named = {**known.rate_limits, **rates}
                fields["rate_limits"] = {name: of for name, of in named.items() if of is not None}
            try:
                changed = Plan.model_validate({**known.model_dump(), **fields})
            except ValidationError as error:
                problem = problem_of_field(error.errors(include_url=False, include_input=False)[0])
                raise PlanRefused(f"the plan {row.id} stays as it is. {problem}.") from None
            for field in fields:
                setattr(row, field, getattr(changed, field))
            return changed


async def require_plan(session: AsyncSession, plan: str) -> None:
    """Raises `PlanUnknown` if there is no such plan."""
    known = (await session.scalars(select(PlanRow.id).order_by(PlanRow.id))).all()
    if plan not in known:
        hint = did_you_mean(plan, known) or f" Use one of: {', '.join(known)}."
        raise PlanUnknown(f'there is no plan "{plan}".{hint}')
