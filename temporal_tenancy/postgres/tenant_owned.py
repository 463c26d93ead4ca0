"""Tables whose rows each belong to one tenant, and the setting that names the tenant to PostgreSQL.

`app.tenant_id` is set here at the start of each transaction; row-level security reads it, and is
the wall. The ORM filter is not one: it keeps queries to the tenant's part of the index, and refuses
another tenant's row while the code that created it is still on the stack.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Final, Self, cast

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Connection,
    Text,
    TextClause,
    Uuid,
    event,
    inspect,
    text,
)
from sqlalchemy.orm import (
    LoaderCriteriaOption,
    Mapped,
    ORMExecuteState,
    Session,
    SessionTransaction,
    UOWTransaction,
    mapped_column,
    with_loader_criteria,
)

from temporal_tenancy.core.errors import ConfigurationError, TenantMismatch
from temporal_tenancy.core.identifiers import require_canonical
from temporal_tenancy.core.scope import current_tenant
from temporal_tenancy.core.stores import Store
from temporal_tenancy.core.tenant_id_types import (
    TenantIdType,
    TenantValue,
    declare_tenant_ids,
    spelling_of,
    value_of,
)
from temporal_tenancy.postgres._connection_guard import begin_with, stamp
from temporal_tenancy.postgres._connection_shares import Holder
from temporal_tenancy.postgres._store_entry import enter_store, naming
from temporal_tenancy.postgres._transaction_clock import TransactionClock, counts_transactions
from temporal_tenancy.postgres.session_limits import SessionLimits
from temporal_tenancy.postgres.unfinished import Unfinished

SESSION_TENANT: Final = "tenant_id"  # the keys in Session.info
SESSION_LIMITS: Final = "limits"
SESSION_HOLDER: Final = "holder"
SESSION_CLOCK: Final = "clock"
SESSION_STORE: Final = "store"  # None: the shared one
SESSION_UNFINISHED: Final = "unfinished"

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


class OwnedByTenant:
    """The common base of `TenantOwned` and of the classes that `tenant_owned()` makes."""

    __tenant_column__: ClassVar[str]
    __tenant_type__: ClassVar[TenantIdType]

    @classmethod
    def __tenant_attribute__(cls) -> Any:  # SQLAlchemy's attribute of that name
        """Returns the attribute that holds the tenant's id, also of an alias of the class."""
        return getattr(cls, cls.__tenant_column__)


class TenantOwned(OwnedByTenant):
    """Mixin for mapped classes whose rows each belong to one tenant.

    `tenant_id` (text) comes first in the primary key. The table's migration must call `protect()`
    on it. In a `tenant_session()`, queries return the tenant's own rows, a new row without a tenant
    gets the session's, and another tenant's row raises `TenantMismatch`.
    """

    __tenant_column__ = "tenant_id"
    __tenant_type__ = "text"

    # Sorted before every other column, so that the primary key begins with it.
    tenant_id: Mapped[str] = mapped_column(
        Text, primary_key=True, default=current_tenant, sort_order=-1000
    )


_SQL_TYPES: Final = {"text": Text, "uuid": Uuid, "bigint": BigInteger}
_made: Final[dict[tuple[str, TenantIdType], type[OwnedByTenant]]] = {
    ("tenant_id", "text"): TenantOwned
}


# Any, because no type checker knows a base class that is made while the program runs.
def tenant_owned(*, column: str = "tenant_id", type: TenantIdType = "text") -> Any:
    """Returns a mixin like `TenantOwned` whose tenant is in another column, or of another type.

    The same arguments return the same class. The attribute has the column's name and comes first
    in the primary key; its values are `str`, `UUID` or `int`. It takes a UUID as text too. The
    table's migration calls `protect()` with the same arguments. Call it where modules are imported:
    it declares the type as `declare_tenant_ids` does.

    Args:
        column: the column's name; a Python identifier.
        type: `text`, `uuid` or `bigint`.

    Raises:
        ConfigurationError: the column is no identifier, the type is none of the three, or the
            process has declared another type.
    """
    declare_tenant_ids(type)
    if not column.isidentifier() or column.startswith("__"):
        raise ConfigurationError(
            f"{column!r} cannot name a tenant's column: its class has an attribute of that name. "
            "Use letters, digits and underscores."
        )
    if (column, type) not in _made:
        _made[column, type] = _make(column, type)
    return _made[column, type]


def tenant_columns() -> Sequence[str]:
    """Returns the names of the columns that this process's classes keep a tenant's id in."""
    return [column for column, _ in _made]


def tenant_tables() -> Mapping[str, str]:
    """Returns the tables of this process's mapped classes, each with its tenant's column."""
    return {
        table.name: owned.__tenant_column__
        for owned in _subclasses(OwnedByTenant)
        if (table := owned.__dict__.get("__table__")) is not None
    }


def _subclasses(cls: type[OwnedByTenant]) -> Iterator[type[OwnedByTenant]]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


def _make(column: str, kind: TenantIdType) -> type[OwnedByTenant]:
    name = "TenantOwnedBy" + "".join(part.title() for part in column.split("_"))
    attributes = {
        "__doc__": f"Mixin for mapped classes whose rows belong to the tenant in `{column}`.",
        "__module__": __name__,
        "__tenant_column__": column,
        "__tenant_type__": kind,
        column: mapped_column(
            _SQL_TYPES[kind],
            primary_key=True,
            default=lambda: value_of(current_tenant(), kind),
            sort_order=-1000,
        ),
    }
    return cast("type[OwnedByTenant]", type(name, (OwnedByTenant,), attributes))


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
    store: Store | None = session.info.get(SESSION_STORE)
    first = _set_tenant(limits, counted)
    with stamp(connection, tenant, limits, clock, None if store is None else store.name):
        if store is None:
            begin_with(connection, naming(tenant, first.text))
        else:
            enter_store(connection, store, tenant, first.text)
    if clock is not None and not counted:
        clock.begin(limits.transaction)


@event.listens_for(TenantSession, "before_commit")
def _require_finished_work(session: TenantSession) -> None:
    unfinished = session.info.get(SESSION_UNFINISHED)
    # The work of a savepoint may be awaited after it.
    if isinstance(unfinished, Unfinished) and not session.in_nested_transaction():
        unfinished.require_none()


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
        state.statement = state.statement.options(*_only_of(tenant, len(_made)))
    if (state.is_update or state.is_delete) and not _must_follow(state):
        state.update_execution_options(synchronize_session=False)


def _must_follow(state: ORMExecuteState) -> bool:
    """Whether objects of the session may follow an UPDATE or DELETE, or its code has said how.

    SQLAlchemy applies the conditions to them in Python. Where there are no objects, nor new ones
    that a flush would add, that is for nothing, and takes a fifth of the time of the statement.
    """
    session = state.session
    chosen = "synchronize_session" in state.execution_options
    return chosen or len(session.identity_map) > 0 or len(session.new) > 0


class _BoundTenant(BindParameter[TenantValue]):
    """The tenant's id in a criterion.

    SQLAlchemy annotates copies of all that is in a criterion. It compares the copies of a parameter
    with one another by building SQL expressions, in each execution, which is a tenth of the time of
    a small statement. An annotation says nothing about a value, so it needs no copy.
    """

    inherit_cache = True

    def _annotate(self, values: Mapping[str, Any]) -> Self:
        return self


# Making one takes a tenth of the time of a small statement, and statements can share it.
@lru_cache(4_096)
def _only_of(tenant: str, mixins: int) -> Sequence[LoaderCriteriaOption]:
    """Returns the options that keep a statement's classes to the tenant's rows.

    `mixins` is the number of those that there are: one that is made later has an option of its own.
    """
    return [_own_rows(mixin, tenant) for mixin in tuple(_made.values())[:mixins]]


def _own_rows(mixin: type[OwnedByTenant], tenant: str) -> LoaderCriteriaOption:
    """Returns the option that keeps the classes of `mixin` to the tenant's rows."""
    kind = mixin.__tenant_type__
    value = _BoundTenant(None, _value_for(mixin, tenant), type_=_SQL_TYPES[kind](), unique=True)
    return with_loader_criteria(
        mixin, lambda owned: owned.__tenant_attribute__() == value, include_aliases=True
    )


def _refuse_foreign_parameters(state: ORMExecuteState, tenant: str) -> None:
    mapper = state.bind_mapper
    if mapper is None or not issubclass(mapper.class_, OwnedByTenant):
        return
    parameters = state.parameters
    if parameters is None:
        return
    column = mapper.class_.__tenant_column__
    for row in [parameters] if isinstance(parameters, Mapping) else parameters:
        if column in row:
            _refuse_foreign(row[column], tenant, mapper.class_)


@event.listens_for(TenantSession, "before_flush")
def _stamp_rows(session: TenantSession, flush: UOWTransaction, instances: object) -> None:
    tenant = _tenant_of(session)
    for row in session.new:
        if isinstance(row, OwnedByTenant):
            if getattr(row, row.__tenant_column__) is None:
                setattr(row, row.__tenant_column__, _value_for(type(row), tenant))
            _keep_own(row, tenant)
    for row in session.dirty:
        if isinstance(row, OwnedByTenant) and _is_changed(row, row.__tenant_column__):
            _keep_own(row, tenant)


def _is_changed(row: object, attribute: str) -> bool:
    return bool(inspect(row).attrs[attribute].history.has_changes())


def _keep_own(row: OwnedByTenant, tenant: str) -> None:
    """Refuses another tenant's row; gives its own the value that the database will return."""
    given = getattr(row, row.__tenant_column__)
    _refuse_foreign(given, tenant, type(row))
    value = _value_for(type(row), tenant)
    if given != value:
        setattr(row, row.__tenant_column__, value)


def _value_for(cls: type[OwnedByTenant], tenant: str) -> TenantValue:
    """Returns the tenant's id as the value of the class's column; raises `TenantInvalid`."""
    # A scope may have been entered before the type was declared.
    require_canonical(tenant, cls.__tenant_type__)
    return value_of(tenant, cls.__tenant_type__)


def _refuse_foreign(owner: object, tenant: str, cls: type[OwnedByTenant]) -> None:
    if spelling_of(owner, cls.__tenant_type__) != tenant:
        raise TenantMismatch(
            f'a {cls.__name__} of tenant "{owner}" cannot be written in a session of "{tenant}". '
            f"Leave {cls.__tenant_column__} out: the session sets it."
        )
