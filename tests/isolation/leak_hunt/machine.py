"""The machine: it sends statements, and compares their answers and the tables with the model."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any

import psycopg
from psycopg import errors
from sqlalchemy.exc import IntegrityError

from temporal_tenancy.core.errors import ScopeMissing, TenantMismatch
from temporal_tenancy.postgres.database import Database, tenant_session
from tests.fixtures.postgres import within
from tests.isolation.leak_hunt import carried_scopes, orm_statements, sql_statements
from tests.isolation.leak_hunt.actions import ACTIONS, Action
from tests.isolation.leak_hunt.model import DUPLICATE, REFUSED, TENANTS, Model, Rows, Step

STATEMENTS = (
    orm_statements,
    sql_statements,
    carried_scopes,
)  # importing them fills the table of actions


@dataclass(frozen=True)
class Hunt:
    """A database, a connection that keeps its plans, and a superuser who sees everything."""

    database: Database
    preparing: psycopg.AsyncConnection[Any]
    superuser: psycopg.Connection[Any]

    async def run(self, plan: Sequence[Step], start: Model | None = None) -> None:
        """Runs `plan` on the rows of `start`, or on empty tables.

        Raises:
            AssertionError: an answer or the tables differ from the model.
        """
        model = {tenant: Rows() for tenant in TENANTS} | copy.deepcopy(start or {})
        self._put(model)
        for step in plan:
            action = ACTIONS[step.action]
            assert await self._answer(action, step) == action.expect(model[step.tenant], step), step
            assert self._contents() == model, step

    async def _answer(self, action: Action, step: Step) -> object:
        try:
            if action.send_prepared is not None:
                async with self.preparing.transaction():
                    await self.preparing.execute(
                        "select set_config('app.tenant_id', %s, true)", [step.tenant]
                    )
                    return await action.send_prepared(self.preparing, step)
            if action.carry is not None:
                return await action.carry(self.database, step)
            assert action.send is not None
            with within(self.database, step.tenant):
                async with tenant_session() as session:
                    return await action.send(session, step)
        except (TenantMismatch, ScopeMissing, errors.InsufficientPrivilege):
            return REFUSED
        except (IntegrityError, errors.UniqueViolation):
            return DUPLICATE

    def _put(self, model: Model) -> None:
        with self.superuser.cursor() as cursor, self.superuser.transaction():
            cursor.execute("delete from daily_usage; delete from usage_events")
            cursor.executemany(
                "insert into daily_usage values (%s, %s, %s, 0, 0, 0)",
                [(tenant, *day) for tenant, rows in model.items() for day in rows.usage.items()],
            )
            cursor.executemany(
                """
                insert into usage_events values (
                    %s, %s + time '12:00' at time zone 'UTC', 'XX', %s, 'JFK', 'LAX',
                    null, 100, null, null, false
                )
                """,
                [(tenant, *flight) for tenant, rows in model.items() for flight in rows.flights],
            )

    def _contents(self) -> Model:
        model: Model = {tenant: Rows() for tenant in TENANTS}
        usage = self.superuser.execute("select tenant_id, day, events from daily_usage")
        for tenant, day, events in usage:
            model[tenant].usage[day] = events
        flights = self.superuser.execute("select tenant_id, time_hour, flight from usage_events")
        for tenant, time_hour, flight in flights:
            model[tenant].flights.add((time_hour.astimezone(UTC).date(), flight))
        return model
