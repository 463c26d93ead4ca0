"""Actions: how a statement is sent, and how it should change the model and answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

import psycopg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from temporal_tenancy.postgres.database import Database
from tests.fixtures.postgres import server_version
from tests.isolation.leak_hunt.model import Rows, Step

Send = Callable[[AsyncSession, Step], Awaitable[object]]
SendPrepared = Callable[[psycopg.AsyncConnection[Any], Step], Awaitable[object]]
Carry = Callable[[Database, Step], Awaitable[object]]
Expect = Callable[
    [Rows, Step], object
]  # changes the rows as the action should, and returns its answer


@dataclass(frozen=True)
class Action:
    """A kind of statement."""

    expect: Expect
    send: Send | None = None  # in a tenant's session
    send_prepared: SendPrepared | None = None  # on a connection that prepares its statements
    carry: Carry | None = None  # in scopes that it enters itself
    # Whether it reaches other tenants' rows without row-level security. It does not if the ORM's
    # filter applies first, or if it only adds a row or changes one by key.
    meets_others: bool = True


ACTIONS: dict[str, Action] = {}


def action(expect: Expect, *, meets_others: bool = False) -> Callable[[Send], Send]:
    """Registers an action that uses the ORM."""

    def register(function: Send) -> Send:
        ACTIONS[function.__name__] = Action(expect, function, meets_others=meets_others)
        return function

    return register


def sql(
    name: str, statements: str, expect: Expect, *, meets_others: bool = True, since: int = 15
) -> None:
    """Registers SQL that neither names the tenant nor goes through the ORM.

    Of several statements, separated by semicolons, the last one gives the answer. `since` is the
    first version of PostgreSQL that can read it; the tests of an older one go without.
    """
    if server_version() < since:
        return
    parts = [text(statement) for statement in statements.split(";")]

    async def send(session: AsyncSession, step: Step) -> object:
        connection = await session.connection()
        for part in parts:
            result = await connection.execute(part, {"other": step.other} | step.values)
        return answer(result) if result.returns_rows else None

    ACTIONS[name] = Action(expect, send, meets_others=meets_others)


def prepared(name: str, statement: str, expect: Expect, *, meets_others: bool = True) -> None:
    """Registers SQL whose plan the server reuses from one tenant for the next."""

    async def send(connection: psycopg.AsyncConnection[Any], step: Step) -> object:
        cursor = await connection.execute(statement.encode(), step.values)
        return answer(await cursor.fetchall()) if cursor.description else None

    ACTIONS[name] = Action(expect, send_prepared=send, meets_others=meets_others)


def carried(expect: Expect) -> Callable[[Carry], Carry]:
    """Registers an action that carries a scope out of its block."""

    def register(function: Carry) -> Carry:
        ACTIONS[function.__name__] = Action(expect, carry=function, meets_others=False)
        return function

    return register


def answer(rows: Iterable[Any]) -> list[tuple[Any, ...]]:
    """Returns rows for comparison, in an order that does not depend on the plan."""
    return in_order(tuple(row) for row in rows)


def in_order(rows: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Sorts rows in which a column may be null."""
    return sorted(rows, key=lambda row: [(value is not None, value) for value in row])
