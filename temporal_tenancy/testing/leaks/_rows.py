"""Fills every tenant-owned table with rows of the two tenants."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

import psycopg
from psycopg import sql

from temporal_tenancy.testing.leaks._catalogue import Catalogue, Column, ForeignKey, Relation
from temporal_tenancy.testing.leaks._values import Values, of_any_type, of_partition, others

ROWS: Final = 3  # of each tenant; none refers to the last, where the tables allow that
TRIES: Final = 12  # of one row, each with other values where the server refused one
COMBINATIONS: Final = 200  # of values, tried one by one for one check constraint

RowFactory = Callable[[str, int], Mapping[str, object]]
"""Returns some of a row's values by column, for a tenant's id and the row's number, from 1."""

Row = dict[str, str | None]  # each value as text


class _CannotFill(Exception):
    """A table gets no row."""

    def __init__(self, reason: str = "", root: Relation | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.root = root  # the table to which this one refers, and which got no row


class Filler:
    """Inserts rows as a superuser, with the parents that they need."""

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        catalogue: Catalogue,
        factories: Mapping[str, RowFactory],
    ) -> None:
        self._connection = connection
        self._catalogue = catalogue
        self._factories = factories
        self._values = Values()
        self._made: dict[tuple[int, str, int], Row] = {}
        self._failed: dict[int, _CannotFill] = {}
        self._open: dict[int, int] = {}  # the number of the row that is being made, by table
        self._promised: dict[tuple[int, str, int], Row] = {}
        self._dangling: set[int] = set()  # tables whose rows refer to rows that are to come
        self._places: defaultdict[tuple[int, str], Iterator[int]] = defaultdict(itertools.count)
        self._of_types: dict[str, str | None] = {}
        self._of_domains: dict[Column, Iterator[str]] = {}
        self._fitted: dict[tuple[int, str], str | None] = {}  # by table and column

    def fill(self, tenants: tuple[str, str]) -> dict[Relation, tuple[Relation, str]]:
        """Inserts `ROWS` rows of each tenant, or as many as fit, and one row of no tenant.

        Returns the tables that got none: because of which table, and why.
        """
        self._tenants = tenants
        for table in self._catalogue.tables():
            for number, tenant in itertools.product(range(1, ROWS + 1), tenants):
                if number > 1 and table.oid in self._failed:
                    break  # it takes no row at all, or only one of a tenant
                with suppress(_CannotFill):
                    self._row(table, tenant, number)
        self._connection.execute("select set_config('app.tenant_id', '', true)")
        for table in self._catalogue.tables():
            if table.is_shared and (table.oid, tenants[1], 1) in self._made:
                self._share(table, self._made[table.oid, tenants[1], 1])
        missing = {}
        for table in self._catalogue.tables():
            if not all((table.oid, tenant, 1) in self._made for tenant in tenants):
                failed = self._failed.get(table.oid) or _CannotFill("nothing was tried")
                missing[table] = failed.root or table, failed.reason
        return missing

    def _share(self, table: Relation, like: Row) -> None:
        """Inserts a row of no tenant, if the table takes one."""
        kept = {name for foreign_key in table.foreign_keys for name, _ in foreign_key.pairs}
        row: dict[str, object] = {}
        for column in table.columns.values():
            is_key = any(column.name in unique.columns for unique in table.unique)
            if column.is_generated or (is_key and column.has_default):
                continue
            is_fresh = is_key and column.name not in kept
            row[column.name] = self._value(column) if is_fresh else like[column.name]
        row[table.tenant or ""] = None
        with suppress(psycopg.Error, _CannotFill):
            made = self._try(table, row, "", "origin")
            if made[table.tenant or ""] is not None:
                self._undo(table, made)

    def _row(self, table: Relation, tenant: str, number: int) -> Row:
        """Returns a row of the tenant, made on first use.

        Raises `_CannotFill` if the server takes none.
        """
        made = self._made.get((table.oid, tenant, number))
        if made is not None:
            return made
        if table.oid in self._open:
            raise _CannotFill("its foreign keys form a circle")
        self._open[table.oid] = number
        failed: _CannotFill | None = None
        try:
            # Parents of its own are tried where the others' rows of one parent clash.
            for parents, optional in ((1, True), (number, True), (1, False), (number, False)):
                try:
                    row = self._insert(table, tenant, number, parents, optional)
                except _CannotFill as error:
                    failed = failed or error
                else:
                    self._made[table.oid, tenant, number] = row
                    return row
        finally:
            del self._open[table.oid]
        assert failed is not None
        self._failed.setdefault(table.oid, failed)
        raise failed

    def _insert(
        self, table: Relation, tenant: str, number: int, parents: int, optional: bool
    ) -> Row:
        row: dict[str, object] = {}
        for column in table.columns.values():
            if column.is_generated or column.has_default or not (column.is_required or optional):
                continue
            fitted = self._fitted.get((table.oid, column.name))
            row[column.name] = fitted or self._value(column)
        factory = self._factories.get(table.sql.replace('"', "")) or self._factories.get(table.name)
        if optional and self._tenants[1] == tenant and factory is None:
            row |= self._bait(table)
        for foreign_key in table.foreign_keys:
            row |= self._references(table, foreign_key, tenant, parents, optional)
        if table.partition_key in row and table.partition_key != table.tenant:
            row |= self._in_partition(table, table.partition_key or "")
        promised = self._promised.get((table.oid, tenant, number), {})
        row |= promised
        given = dict(factory(tenant, number)) if factory else {}
        wrong = sorted(given.keys() - table.columns.keys())
        if wrong:
            raise _CannotFill(f"its row factory names {', '.join(wrong)}, which it does not have")
        row |= given
        if table.tenant is not None:
            row[table.tenant] = tenant
        return self._send(table, row, tenant, frozenset(given) | promised.keys())

    def _value(self, column: Column) -> str | None:
        if not column.is_domain:
            return self._values.first(column) or self._of_type(column)
        left = self._of_domains.setdefault(column, self._of_domain(column))
        value = next(left, None)
        if value is None:
            del self._of_domains[column]
        return value

    def _of_domain(self, column: Column) -> Iterator[str]:
        """Yields the values that a domain takes; its checks are tried with each."""
        candidates = (self._values.first(column), *others(column, "", self._tenants[0]))
        for candidate in (*candidates, *of_any_type(column)):
            if candidate is not None and self._takes(column.type, candidate):
                yield candidate

    def _of_type(self, column: Column) -> str | None:
        """Returns a value of a type that only the server knows; None if none of ours fits."""
        if column.type not in self._of_types:
            fitting = (text for text in of_any_type(column) if self._takes(column.type, text))
            self._of_types[column.type] = next(fitting, None)
        return self._of_types[column.type]

    def _takes(self, type: str, value: str) -> bool:
        try:
            with self._connection.transaction():
                self._connection.execute(f"select cast({literal(value)} as {type})".encode())
        except psycopg.Error:
            return False
        return True

    def _bait(self, table: Relation) -> Row:
        """Returns the other tenant's id for columns that only a wrong policy would look at."""
        kept = {name for foreign_key in table.foreign_keys for name, _ in foreign_key.pairs}
        kept |= {name for unique in table.unique for name in unique.columns}
        kept |= {name for check in table.checks.values() for name in check.columns}
        kind = table.columns[table.tenant].base if table.tenant else ""
        return {
            column.name: self._tenants[0]
            for column in table.columns.values()
            if column.base == kind
            and column.name not in kept
            and column.name != table.partition_key
            and column.modifier < 0
            and not (column.has_default or column.is_generated or column.is_domain)
        }

    def _references(
        self,
        table: Relation,
        foreign_key: ForeignKey,
        tenant: str,
        number: int,
        optional: bool,
    ) -> Row:
        """Returns the columns of a foreign key, with the values of a parent's row."""
        columns = [table.columns[name] for name, _ in foreign_key.pairs]
        if any(column.is_generated for column in columns):
            return {}
        is_required = all(column.is_required or column.name == table.tenant for column in columns)
        parent = self._catalogue.relations[foreign_key.parent]
        pinned = {own: parents for own, parents in foreign_key.pairs if own == table.tenant}
        try:
            if not (is_required or optional):
                raise _CannotFill
            if parent.owned_by and not (pinned and pinned != {table.tenant: parent.tenant}):
                found = self._parent(table, foreign_key, tenant, number, is_required)
            elif pinned:
                found = self._tenants_own(parent, tenant, pinned[table.tenant or ""])
            else:
                found = self._row(parent, tenant, 1)
        except _CannotFill as error:
            if is_required:
                root = error.root or parent
                raise _CannotFill(error.reason, root) from None
            return {c.name: None for c in columns if c.name != table.tenant}
        return {own: found[parents] for own, parents in foreign_key.pairs}

    def _parent(
        self, table: Relation, foreign_key: ForeignKey, tenant: str, number: int, is_required: bool
    ) -> Row:
        """Returns the parent's row, or the key that it is going to get."""
        parent = self._catalogue.relations[foreign_key.parent]
        if not is_required or self._open.get(parent.oid) != number:
            return self._row(parent, tenant, number)
        promised = self._promised.setdefault((parent.oid, tenant, number), {})
        for _, name in foreign_key.pairs:
            column = parent.columns[name]
            if column.is_generated:
                raise _CannotFill("its foreign keys form a circle")
            if name not in promised:
                promised[name] = tenant if name == parent.tenant else self._value(column)
        if parent is not table:
            self._dangling.add(table.oid)
        return promised

    def _tenants_own(self, parent: Relation, tenant: str, key: str) -> Row:
        """Returns the row of a table of tenants, whose key is the tenant's id."""
        made = self._made.get((parent.oid, tenant, 0))
        if made is None:
            row: dict[str, object] = {
                column.name: self._value(column)
                for column in parent.columns.values()
                if not (column.has_default or column.is_generated)
            }
            for foreign_key in parent.foreign_keys:
                row |= self._references(parent, foreign_key, tenant, 1, True)
            factory = self._factories.get(parent.sql.replace('"', "")) or self._factories.get(
                parent.name
            )
            given = dict(factory(tenant, 1)) if factory else {}
            row |= {**given, key: tenant}
            made = self._send(parent, row, tenant, frozenset(given) | {key})
            self._made[parent.oid, tenant, 0] = made
        return made

    def _in_partition(self, table: Relation, key: str) -> Row:
        for child in self._catalogue.relations.values():
            if child.parent == table.oid and child.bound and child.bound != "DEFAULT":
                for value in of_partition(child.bound):
                    return {key: value}
        return {}

    def _send(
        self, table: Relation, row: dict[str, object], tenant: str, given: frozenset[str]
    ) -> Row:
        """Inserts the row; changes the values that a check refuses, except those in `given`."""
        reason = ""
        role = "replica" if table.oid in self._dangling else "origin"
        for _ in range(TRIES):
            try:
                made = self._try(table, row, tenant, role)
                if table.tenant is not None and made[table.tenant] != tenant:
                    self._undo(table, made)
                    # A trigger has given the row to another tenant; the check will tell.
                    made = self._try(table, row, tenant, "replica")
            except psycopg.Error as error:
                reason = said(error)
                if not self._mend(table, row, tenant, error, given):
                    break
            else:
                return made
        raise _CannotFill(reason)

    def _try(self, table: Relation, row: Mapping[str, object], tenant: str, role: str) -> Row:
        names = list(row)
        statement = sql.SQL("insert into {} ({}) overriding system value values ({}) returning {}")
        columns = sql.SQL(", ").join(map(sql.Identifier, names))
        if not names:
            statement = sql.SQL("insert into {} default values returning {3}")
        filled = statement.format(
            sql.SQL(table.sql),
            columns,
            sql.SQL(", ").join([sql.Placeholder()] * len(names)),
            sql.SQL(", ").join(
                sql.SQL("{}::text").format(sql.Identifier(name)) for name in table.columns
            ),
        )
        with self._connection.transaction():
            self._connection.execute(
                "select set_config('app.tenant_id', %s, true), "
                "set_config('session_replication_role', %s, true)",
                [tenant, role],
            )
            values = self._connection.execute(filled, list(row.values())).fetchone()
            self._connection.execute("set local session_replication_role = origin")
        if values is None:
            raise _CannotFill("a trigger dropped the row")
        return dict(zip(table.columns, values, strict=True))

    def _undo(self, table: Relation, row: Row) -> None:
        self._connection.execute(
            f"delete from {table.sql} where {condition(table.columns.values(), row)}".encode()
        )

    def _mend(
        self,
        table: Relation,
        row: dict[str, object],
        tenant: str,
        error: psycopg.Error,
        given: frozenset[str],
    ) -> bool:
        """Changes the row so that it no longer breaks the constraint; False if it cannot."""
        diag = error.diag
        kept = given | {table.tenant}
        kept |= {name for foreign_key in table.foreign_keys for name, _ in foreign_key.pairs}
        if isinstance(error, (psycopg.errors.UniqueViolation, psycopg.errors.ExclusionViolation)):
            changed = False
            for unique in table.unique:
                if unique.name == diag.constraint_name:
                    for name in set(unique.columns) - kept:
                        fresh = self._value(table.columns[name])
                        changed = changed or fresh != row.get(name)
                        row[name] = fresh
            return changed
        if isinstance(error, psycopg.errors.NotNullViolation):
            column = table.columns.get(diag.column_name or "")
            if column is None or column.name in kept or row.get(column.name) is not None:
                return False
            row[column.name] = self._value(column)
            return row[column.name] is not None
        check = table.checks.get(diag.constraint_name or "")
        if not isinstance(error, psycopg.errors.CheckViolation) or check is None:
            return False
        pools: dict[str, list[object]] = {}
        for name in check.columns:
            pool: list[object] = [row[name]] if name in row else []
            column = table.columns[name]
            if name not in kept and not column.is_generated:
                pool += [v for v in others(column, check.expression, tenant) if v not in pool]
            pools[name] = pool or [None]
        place = next(self._places[table.oid, check.name])
        found = self._fitting(table, pools, check.expression, place)
        if found is None:
            return False
        for name in found.keys() - kept:
            row[name] = found[name]
            if not any(name in unique.columns for unique in table.unique):
                self._fitted[table.oid, name] = found[name]
        return True

    def _fitting(
        self, table: Relation, pools: Mapping[str, list[object]], expression: str, place: int
    ) -> Row | None:
        """Returns one of the pools' combinations with which the expression is not false.

        Each time another one, by `place`: rows of unique columns must differ.
        """
        # All in one query, unless the expression fails for one of them.
        found = self._first_fitting(table, pools, expression, place)
        if found is not None:
            return found[0] or (self._fitting(table, pools, expression, 0) if place else None)
        for values in itertools.islice(itertools.product(*pools.values()), COMBINATIONS):
            single = {name: [value] for name, value in zip(pools, values, strict=True)}
            found = self._first_fitting(table, single, expression, 0)
            if found is not None and found[0] is not None:
                return found[0]
        return None

    def _first_fitting(
        self, table: Relation, pools: Mapping[str, list[object]], expression: str, place: int
    ) -> tuple[Row | None] | None:
        """Returns a fitting combination or None, in a tuple; None alone if the query failed."""
        sources, parameters = [], []
        for number, (name, pool) in enumerate(pools.items()):
            column = table.columns[name]
            values = ", ".join([f"(%s::{column.type})"] * len(pool))
            sources.append(f"(values {values}) as source{number} ({column.sql})")
            parameters += [None if value is None else str(value) for value in pool]
        listed = ", ".join(f"{table.columns[name].sql}::text" for name in pools)
        query = (
            f"select {listed} from {', '.join(sources)} "
            f"where ({expression.replace('%', '%%')}) is not false limit 1 offset {place}"
        )
        try:
            with self._connection.transaction():
                found = self._connection.execute(query.encode(), parameters).fetchone()
        except psycopg.Error:
            return None
        return (None if found is None else dict(zip(pools, found, strict=True)),)


def said(error: psycopg.Error) -> str:
    """Returns the server's words about a generated row, with the constraint's name."""
    text = error.diag.message_primary or str(error)
    return f"{text} (SQLSTATE {error.sqlstate})"


def literal(value: object) -> str:
    """Returns a value as an SQL literal."""
    if value is None:
        return "null"
    text = str(value).replace("'", "''")
    return f"E'{text}'".replace("\\", "\\\\") if "\\" in text else f"'{text}'"


def cell(column: Column, value: str | None) -> str:
    """Returns a value of a column as an SQL literal of its type."""
    return f"{literal(value)}::{column.type}"


def condition(columns: Any, row: Row, prefix: str = "") -> str:
    """Returns the SQL condition that the columns have the row's values."""
    parts = []
    for column in columns:
        name, value = f"{prefix}{column.sql}", row[column.name]
        if value is None:
            parts.append(f"{name} is null")
        elif column.is_comparable:
            parts.append(f"{name} = {cell(column, value)}")
        else:
            parts.append(f"{name}::text = {literal(value)}")
    return " and ".join(parts)
