"""Sends statements as a runtime role, and observes what they return and what they change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import StaticPool

from temporal_tenancy.core.errors import TenancyError
from temporal_tenancy.core.scope import TenantScope, enter
from temporal_tenancy.core.words import number
from temporal_tenancy.postgres.database_errors import ROW_POLICY_CHECK
from temporal_tenancy.postgres.database_urls import CONNECT_TIMEOUT, database_url
from temporal_tenancy.postgres.session_limits import SessionLimits
from temporal_tenancy.postgres.tenant_owned import (
    SESSION_CLOCK,
    SESSION_HOLDER,
    SESSION_LIMITS,
    SESSION_TENANT,
    TenantSession,
)
from temporal_tenancy.testing.leaks._catalogue import Relation
from temporal_tenancy.testing.leaks._statements import Statement

MOST_ROWS: Final = 10_000  # read of one result
_SAVEPOINT: Final = "savepoint leak_check"
_BACK: Final = "rollback to savepoint leak_check; release savepoint leak_check"
_REFUSED: Final = "42501"  # SQLSTATE of a missing right, and of a row that a policy refuses
# The function of PL/pgSQL that raises what an application's own code says.
_RAISE: Final = "exec_stmt_raise"
# SQLSTATEs with which rows that refer to a row keep it from being changed.
_REFERRED_TO: Final = frozenset({"23503", "23001", "23502"})

Values = tuple[str, ...]
Snapshot = Mapping[int, tuple[Counter[Values], Counter[Values]]]
"""The rows of the two tenants in each table, by the table's oid."""


@dataclass(frozen=True)
class Refusal:
    """Why the server refused a statement."""

    state: str  # SQLSTATE, or the type of the session's own error
    text: str
    constraint: str = ""
    by_policy: bool = False
    by_application: bool = False  # raised by the application's own function
    by_session: bool = False  # and not by the server: the ORM's session refused the tenant

    @property
    def is_plain(self) -> bool:
        """Whether the role lacks the right, or the session refused the tenant."""
        return self.state == _REFUSED or self.by_session


@dataclass
class Observation:
    """What one statement did, as its tenant and a superuser see it."""

    refusal: Refusal | None = None
    rows: list[Values] = field(default_factory=list)
    count: int = 0  # rows returned or changed
    changed: dict[int, list[Values]] = field(default_factory=dict)  # the tenant's rows after it
    effects: dict[int, int] = field(default_factory=dict)  # on the number of the tenant's rows
    foreign: dict[int, tuple[int, int]] = field(default_factory=dict)  # others' rows less and more
    altered: set[int] = field(default_factory=set)  # tables in which the tenant's rows changed
    written: list[int] = field(default_factory=list)  # tables without a tenant column

    @property
    def outcome(self) -> tuple[str, str] | None:
        """What of a refusal does not depend on chance."""
        return (self.refusal.state, self.refusal.constraint) if self.refusal else None


class _Holder:
    """Takes the place of a session's claim on a pool: there is only this connection."""

    def progressed(self) -> None:
        return None


class Observer:
    """One superuser's transaction, in which statements run as the role and are rolled back."""

    def __init__(
        self,
        connection: Connection,
        *,
        role: str,
        settings: Mapping[str, str],
        tenants: tuple[str, str],
    ) -> None:
        self.sql_connection = connection
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        self.connection: psycopg.Connection[Any] = driver
        self._role = role
        self._settings = dict(settings)
        self.tenants = tenants
        self._relations: Mapping[int, Relation] = {}
        self._totals: dict[int, int] = {}
        self._before: dict[int, tuple[Counter[Values], Counter[Values]]] = {}

    def watch(self, relations: Iterable[Relation]) -> None:
        """Begins to watch these tables; to be repeated after each change by the superuser."""
        self._relations = {r.oid: r for r in relations if r.kind in ("r", "p")}
        self._before = {
            oid: self._rows(relation)
            for oid, relation in self._relations.items()
            if relation.owned_by
        }
        self._totals = self._written()

    def run_all(self, statements: Iterable[Statement], tenant: str | None) -> list[Observation]:
        """Runs statements as the role, for a tenant or for none, each without the others' effect.

        Those that only read share a savepoint until one of them fails.
        """
        found = []
        is_reading = False
        for statement in statements:
            shares = statement.reads and statement.send is None
            if is_reading and not shares:
                self.connection.execute(_BACK)
                is_reading = False
            if not shares:
                found.append(self._run(statement, tenant))
                continue
            if not is_reading:
                self._become(tenant, _SAVEPOINT)
                is_reading = True
            made = Observation()
            try:
                self._send(statement, made)
            except psycopg.Error as error:
                made = Observation(_refusal(error))
                self.connection.execute(_BACK)
                is_reading = False
            found.append(made)
        if is_reading:
            self.connection.execute(_BACK)
        return found

    def _run(self, statement: Statement, tenant: str | None) -> Observation:
        made = self._run_after(statement.setup, statement, tenant)
        if made.refusal and made.refusal.state in _REFERRED_TO and statement.unreferenced:
            with suppress(psycopg.Error):  # some constraints let no row go
                return self._run_after(statement.unreferenced, statement, tenant)
        return made

    def _run_after(self, setup: str, statement: Statement, tenant: str | None) -> Observation:
        before = dict(self._before)
        made: Observation | None = None
        try:
            if not setup:
                self._become(tenant, _SAVEPOINT)
            else:
                self.connection.execute(f"{_SAVEPOINT}; {setup}".encode())
                totals = self._written()
                for oid in before:
                    if totals[oid] != self._totals.get(oid):
                        before[oid] = self._rows(self._relations[oid])
                self._totals = totals
                self._become(tenant)
            made = self._observe(statement, tenant, before)
            return made
        finally:
            self.connection.execute(_BACK)
            if setup or made is None or made.refusal:
                self._totals = self._written()  # also of what failed half-way

    def _observe(self, statement: Statement, tenant: str | None, before: Snapshot) -> Observation:
        made = Observation()
        try:
            if statement.send is not None:
                assert tenant is not None
                made.rows = self._through_orm(statement, tenant)
                made.count = len(made.rows)
            else:
                self._send(statement, made)
            if statement.reads:
                return made
            totals = self._written("set constraints all immediate; reset session authorization; ")
        except psycopg.Error as error:
            return Observation(_refusal(error))
        except SQLAlchemyError as error:
            cause = getattr(error, "orig", None)
            if isinstance(cause, psycopg.Error):
                return Observation(_refusal(cause))
            return Observation(Refusal(type(error).__name__, str(cause or error)))
        except TenancyError as error:
            return Observation(Refusal(str(error.type), error.message, by_session=True))
        self._compare(made, before, totals)
        return made

    def _become(self, tenant: str | None, *first: str) -> None:
        """Takes on the role and the tenant, after the SQL in `first`, until the savepoint ends."""
        parts = list(first)
        role = self._settings.get("role")
        for name, value in self._settings.items():
            if name != "role":
                parts.append(f"select set_config({_quoted(name)}, {_quoted(value)}, true)")
        parts.append(f"set local session authorization {_quoted(self._role)}")
        if role:
            parts.append(f"set local role {_quoted(role)}")
        if tenant is not None:
            parts.append(f"select set_config('app.tenant_id', {_quoted(tenant)}, true)")
        self.connection.execute("; ".join(parts).encode())

    def _send(self, statement: Statement, made: Observation) -> None:
        with self.connection.cursor() as cursor:
            text = statement.sql.encode()
            if statement.copied is not None:
                with cursor.copy(text) as copy:
                    copy.write(statement.copied)
                made.count = max(cursor.rowcount, 0)
                return
            if statement.sql.startswith("copy "):
                with cursor.copy(text) as copy:
                    made.rows = [(bytes(line).decode(errors="replace"),) for line in copy]
                made.count = len(made.rows)
                return
            cursor.execute(text)
            while cursor.nextset():
                pass
            made.count = max(cursor.rowcount, 0)
            if cursor.description:
                made.rows = [tuple(map(repr, row)) for row in cursor.fetchmany(MOST_ROWS)]

    def _through_orm(self, statement: Statement, tenant: str) -> list[Values]:
        """Runs a statement in a session like that of `tenant_session()`."""
        assert statement.send is not None
        info = {
            SESSION_TENANT: tenant,
            SESSION_LIMITS: SessionLimits(),
            SESSION_HOLDER: _Holder(),
            SESSION_CLOCK: None,
        }
        session = TenantSession(
            self.sql_connection, info=info, join_transaction_mode="create_savepoint"
        )
        with enter(TenantScope(tenant)), session:
            rows = [tuple(map(repr, row)) for row in statement.send(session)]
            session.flush()
            session.commit()
        return rows

    def _compare(self, made: Observation, before: Snapshot, totals: dict[int, int]) -> None:
        touched = [oid for oid, total in totals.items() if total != self._totals.get(oid)]
        self._totals = totals
        for oid in touched:
            relation = self._relations[oid]
            if not relation.owned_by:
                made.written.append(oid)
                continue
            own, others = self._rows(relation)
            made.changed[oid] = sorted(own.elements())
            made.effects[oid] = own.total() - before[oid][0].total()
            if own != before[oid][0]:
                made.altered.add(oid)
            less, more = before[oid][1] - others, others - before[oid][1]
            if less or more:
                made.foreign[oid] = (less.total(), more.total())

    def _written(self, first: str = "") -> dict[int, int]:
        """Returns how many rows each table has had written in this transaction, undone or not.

        The SQL in `first` is sent before.
        """
        listed = ",".join(map(str, self._relations))
        cursor = self.connection.execute(
            f"""{first}
            select oid, pg_stat_get_xact_tuples_inserted(oid)
                + pg_stat_get_xact_tuples_updated(oid) + pg_stat_get_xact_tuples_deleted(oid)
            from unnest('{{{listed}}}'::oid[]) as oid
            """.encode()
        )
        while cursor.nextset():
            pass
        found = dict(cursor.fetchall())
        for oid, relation in self._relations.items():  # a partition's rows are its parent's
            parent = relation.parent
            while parent is not None and parent in found:
                found[parent] = found[parent] * 31 + found[oid]
                parent = self._relations[parent].parent
        return found

    def _rows(self, relation: Relation) -> tuple[Counter[Values], Counter[Values]]:
        """Returns the tenant's rows, and the others': the other's, and those of no tenant."""
        owner = relation.owned_by.replace("{row}", "rows")
        listed = ", ".join(f"rows.{each.sql}::text" for each in relation.columns.values())
        mine, other = (_quoted(tenant) for tenant in self.tenants)
        nobody = f" or {owner} is null" if relation.is_shared else ""
        query = (
            f"select ({owner} = {mine}) is true, {listed} from {relation.sql} as rows "
            f"where {owner} in ({mine}, {other}){nobody}"
        )
        own: Counter[Values] = Counter()
        others: Counter[Values] = Counter()
        for is_own, *values in self.connection.execute(query.encode()):
            (own if is_own else others)[tuple(map(repr, values))] += 1
        return own, others


def superusers_engine(url: str) -> Engine:
    """Returns an engine with one connection that prepares no statements."""
    return create_engine(
        database_url(url),
        poolclass=StaticPool,
        connect_args={
            "prepare_threshold": None,
            "connect_timeout": CONNECT_TIMEOUT,
            "application_name": "temporal-tenancy leak check",
        },
    )


def differences(first: Observation, again: Observation, beside: Observation) -> str:
    """Says what of a statement depends on the other tenant's rows; nothing if nothing does.

    Args:
        first: what it did without the other tenant's rows.
        again: the same once more: what differs here depends on chance or the clock.
        beside: what it did beside the other tenant's rows.
    """
    if first.outcome != again.outcome:
        return ""
    if first.outcome != beside.outcome:
        return f"{_outcome(beside)} beside another tenant's rows, and {_outcome(first)} without"
    if first.count == again.count and first.count != beside.count:
        return (
            f"{number(beside.count, 'row')} beside another tenant's rows, and {first.count} without"
        )
    if _stable(first.rows, again.rows, beside.rows):
        return "returned other values beside another tenant's rows than without"
    for oid in first.changed.keys() & again.changed.keys() & beside.changed.keys():
        if _stable(first.changed[oid], again.changed[oid], beside.changed[oid]):
            return "wrote other values beside another tenant's rows than without"
    if first.changed.keys() == again.changed.keys() != beside.changed.keys():
        return "wrote to other tables beside another tenant's rows than without"
    return ""


def _outcome(observation: Observation) -> str:
    if observation.refusal is None:
        return f"succeeded ({number(observation.count, 'row')})"
    return f"failed ({observation.refusal.text})"


def _stable(first: Sequence[Values], again: Sequence[Values], beside: Sequence[Values]) -> bool:
    """Whether `beside` differs from `first` in columns in which `again` does not."""
    if len(first) != len(again):
        return False
    if len(first) != len(beside):
        return True
    columns, once, more = (list(zip(*rows, strict=True)) for rows in (first, again, beside))
    kept = [
        number
        for number, values in enumerate(columns)
        if number < len(once) and sorted(values) == sorted(once[number])
    ]

    def project(rows: Sequence[Values]) -> Counter[Values]:
        return Counter(tuple(row[number] for number in kept) for row in rows)

    if len(columns) != len(more):
        return True
    return project(first) != project(beside)


def _refusal(error: psycopg.Error) -> Refusal:
    diag = error.diag
    return Refusal(
        error.sqlstate or type(error).__name__,
        diag.message_primary or str(error),
        diag.constraint_name or "",
        diag.source_function == ROW_POLICY_CHECK,
        diag.source_function == _RAISE,
    )


def _quoted(text: str) -> str:
    escaped = text.replace("'", "''").replace("\\", "\\\\")
    return f" E'{escaped}'" if "\\" in text else f"'{escaped}'"
