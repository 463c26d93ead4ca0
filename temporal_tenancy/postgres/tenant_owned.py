"""Tables whose rows each belong to one tenant, and the setting that names the tenant to PostgreSQL.

`app.tenant_id` is set here at the start of each transaction; row-level security reads it, and is
the wall. The ORM filter is not one: it keeps queries to the tenant's part of the index, and refuses
another tenant's row while the code that created it is still on the stack.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from sqlalchemy import Connection, Text, TextClause, event, inspect, text
from sqlalchemy.orm import (
    Mapped,
    ORMExecuteState,
    Session,
    SessionTransaction,
    UOWTransaction,
    mapped_column,
    with_loader_criteria,
)

from temporal_tenancy.core.errors import TenantMismatch
from temporal_tenancy.core.scope import current_tenant
from temporal_tenancy.postgres._connection_guard import stamp
from temporal_tenancy.postgres._connection_shares import Holder
from temporal_tenancy.postgres._transaction_clock import TransactionClock, counts_transactions
from temporal_tenancy.postgres.session_limits import SessionLimits

SESSION_TENANT: Final = "tenant_id"  # the keys in Session.info
SESSION_LIMITS: Final = "limits"
SESSION_HOLDER: Final = "holder"
SESSION_CLOCK: Final = "clock"

# Local to the transaction, so that no connection takes them back to the pool. The statement guard
# reads strings by the SQL standard's rules, and so must the server.
_SET_TENANT: Final = """
    select
        set_config('app.tenant_id', :tenant, true),
        set_config('standard_conforming_strings', 'on', true),
        set_config('statement_timeout', '{statement}', true),
        set_config('lock_timeout', '{lock}', true),
        set_config('idle_in_transaction_session_timeout', '{idle}', true)
"""
# The role's own transaction_timeout already runs, and the server does not restart a running timer:
# 0 stops it first.
_SET_TRANSACTION: Final = """,
        set_config('transaction_timeout', '0', true),
        set_config('transaction_timeout', '{transaction}', true)
"""


@lru_cache
def _set_tenant(limits: SessionLimits, by_server: bool) -> TextClause:
    """Returns the first statement of a transaction; cached, as it contains only the limits."""
    statement = _SET_TENANT + (_SET_TRANSACTION if by_server else "")
    names = ("statement", "lock", "idle", "transaction")
    return text(statement.format(**{name: limits.milliseconds(name) for name in names}))


class TenantOwned:
    """Mixin for mapped classes whose rows each belong to one tenant.

    `tenant_id` (text) comes first in the primary key. The table's migration must call `protect()`
    on it. In a `tenant_session()`, queries return the tenant's own rows, a new row without a tenant
    gets the session's, and another tenant's row raises `TenantMismatch`.
    """

    # Sorted before every other column, so that the primary key begins with it.
    tenant_id: Mapped[str] = mapped_column(
        Text, primary_key=True, default=current_tenant, sort_order=-1000
    )


class TenantSession(Session):
    """The session inside `tenant_session()`; all its statements are for one tenant."""


def _tenant_of(session: Session) -> str:
    """The tenant whose rows `session` reads and writes."""
    return str(session.info[SESSION_TENANT])


@event.listens_for(TenantSession, "after_begin")
def _stamp_transaction(
    session: TenantSession, transaction: SessionTransaction, connection: Connection
) -> None:
    # A savepoint's connection is stamped already, and keeps the setting.
    if transaction.nested:
        return
    tenant = _tenant_of(session)
    limits: SessionLimits = session.info[SESSION_LIMITS]
    counted = counts_transactions(connection.dialect)
    clock: TransactionClock | None = session.info[SESSION_CLOCK]
    with stamp(connection, tenant, clock):
        connection.execute(_set_tenant(limits, counted), {"tenant": tenant})
    if clock is not None and not counted:
        clock.begin(limits.transaction)


@event.listens_for(TenantSession, "after_commit")
def _record_progress(session: TenantSession) -> None:
    holder: Holder = session.info[SESSION_HOLDER]
    holder.progressed()


@event.listens_for(TenantSession, "after_transaction_end")
def _stop_the_clock(session: TenantSession, transaction: SessionTransaction) -> None:
    clock: TransactionClock | None = session.info[SESSION_CLOCK]
    if clock is not None and transaction.parent is None:
        clock.end()


@event.listens_for(TenantSession, "do_orm_execute")
def _keep_to_the_tenant(state: ORMExecuteState) -> None:
    tenant = _tenant_of(state.session)
    if state.is_insert:
        _refuse_foreign_parameters(state, tenant)
        return
    # Loads of attributes and relationships inherit the criteria of the query before them.
    if not state.is_orm_statement or state.is_column_load or state.is_relationship_load:
        return
    if state.is_select or state.is_update or state.is_delete:
        state.statement = state.statement.options(
            with_loader_criteria(
                TenantOwned, lambda owned: owned.tenant_id == tenant, include_aliases=True
            )
        )


def _refuse_foreign_parameters(state: ORMExecuteState, tenant: str) -> None:
    mapper = state.bind_mapper
    if mapper is None or not issubclass(mapper.class_, TenantOwned):
        return
    parameters = state.parameters
    if parameters is None:
        return
    for row in [parameters] if isinstance(parameters, Mapping) else parameters:
        _refuse_foreign(row.get("tenant_id", tenant), tenant, mapper.class_)


@event.listens_for(TenantSession, "before_flush")
def _stamp_rows(session: TenantSession, flush: UOWTransaction, instances: object) -> None:
    tenant = _tenant_of(session)
    for row in session.new:
        if isinstance(row, TenantOwned):
            if row.tenant_id is None:
                row.tenant_id = tenant
            _refuse_foreign(row.tenant_id, tenant, type(row))
    for row in session.dirty:
        if isinstance(row, TenantOwned) and inspect(row).attrs.tenant_id.history.has_changes():
            _refuse_foreign(row.tenant_id, tenant, type(row))


def _refuse_foreign(owner: object, tenant: str, kind: type) -> None:
    if owner != tenant:
        raise TenantMismatch(
            f'a {kind.__name__} of tenant "{owner}" cannot be written in a session of "{tenant}". '
            "Leave tenant_id out: the session sets it."
        )
