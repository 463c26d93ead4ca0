"""The machine: it sends statements, and compares their answers and the tables with the model."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any

import psycopg
from psycopg import errors, sql
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


TABLES = ("daily_usage", "usage_events")


@dataclass(frozen=True)
class Place:
    """Where a tenant's rows are: connections to its database, and its schema."""

    superuser: psycopg.Connection[Any]  # sees everything
    preparing: psycopg.AsyncConnection[Any]  # keeps its plans
    schema: str = "public"

    def table(self, name: str) -> sql.Identifier:
        """Returns a table of the tenant's."""
        return sql.Identifier(self.schema, name)

    async def enter(self, tenant: str) -> None:
        """Begins a transaction of the tenant on the connection that keeps its plans."""
        await self.preparing.execute("select set_config('app.tenant_id', %s, true)", [tenant])
        if self.schema != "public":
            await self.preparing.execute(
                "select set_config('search_path', %s, true), set_config('role', %s, true)",
                [self.schema, self.schema],
            )


@dataclass(frozen=True)
class Hunt:
    """A database, and the place of each tenant."""

    database: Database
    places: Mapping[str, Place]

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
                place = self.places[step.tenant]
                async with place.preparing.transaction():
                    await place.enter(step.tenant)
                    return await action.send_prepared(place.preparing, step)
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
        for place in self._distinct():
            for name in TABLES:
                place.superuser.execute(sql.SQL("delete from {}").format(place.table(name)))
        for tenant, rows in model.items():
            place = self.places[tenant]
            with place.superuser.cursor() as cursor, place.superuser.transaction():
                cursor.executemany(
                    sql.SQL("insert into {} values (%s, %s, %s, 0, 0, 0)").format(
                        place.table("daily_usage")
                    ),
                    [(tenant, *day) for day in rows.usage.items()],
                )
                cursor.executemany(
                    sql.SQL("""
                        insert into {} values (
                            %s, %s + time '12:00' at time zone 'UTC', 'XX', %s, 'JFK', 'LAX',
                            null, 100, null, null, false
                        )
                    """).format(place.table("usage_events")),
                    [(tenant, *flight) for flight in rows.flights],
                )

    def _contents(self) -> Model:
        model: Model = {tenant: Rows() for tenant in TENANTS}
        for place in self._distinct():
            execute = place.superuser.execute
            for tenant, day, events in execute(
                sql.SQL("select tenant_id, day, events from {}").format(place.table("daily_usage"))
            ):
                assert self.places[tenant] == place
                model[tenant].usage[day] = events
            for tenant, time_hour, flight in execute(
                sql.SQL("select tenant_id, time_hour, flight from {}").format(
                    place.table("usage_events")
                )
            ):
                assert self.places[tenant] == place
                model[tenant].flights.add((time_hour.astimezone(UTC).date(), flight))
        return model

    def _distinct(self) -> Sequence[Place]:
        """Returns the places, each once."""
        return list(dict.fromkeys(self.places.values()))
