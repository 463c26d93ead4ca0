"""The statements that the leak check sends as one tenant, generated from the catalogue."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy.orm import Session

from temporal_tenancy.testing.leaks._catalogue import (
    Catalogue,
    Column,
    Function,
    Relation,
    Unique,
)
from temporal_tenancy.testing.leaks._rows import Row, cell, condition, literal
from temporal_tenancy.testing.leaks._values import Values

CALLS: Final = 16  # of one function, with different arguments
NEIGHBOURS: Final = 3  # tables with which each table is joined, beside those to which it refers

# The query of a view with its owner's rights, as the role may send it.
THE_VIEWS_QUERY: Final = "the query of a view"

Send = Callable[[Session], Iterable[tuple[Any, ...]]]


@dataclass(frozen=True)
class Statement:
    """One statement of one tenant."""

    object: str  # the table, view or function
    kind: str
    sql: str
    table: Relation | None = None  # that it writes
    setup: str = ""  # sent before it, as a superuser
    own: bool = False  # is about the tenant's own rows, so it must work where the role may send it
    effect: int | None = None  # on the number of the tenant's rows in `table`
    forbidden: str = ""  # what it would do to every tenant if the server allowed it
    copied: str | None = None  # the data of a COPY FROM
    send: Send | None = field(default=None, compare=False)  # through the ORM instead
    reads: bool = False  # can only read
    # Sent before it, as a superuser, where rows that refer to the table's kept it from running.
    unreferenced: str = ""
    joined: tuple[Relation, ...] = ()  # what else it reads


@dataclass(frozen=True)
class Rows:
    """The rows of both tenants in one table; the last of each has no children where it can."""

    own: Sequence[Row]
    others: Sequence[Row]
    inherited: int = 0  # more of the tenant's rows, in tables that inherit from this one
    shared: int = 0  # rows of no tenant


Seeded = Mapping[Relation, Rows]


def statements(
    catalogue: Catalogue, seeded: Seeded, tenants: tuple[str, str]
) -> Iterator[Statement]:
    """Yields every statement of the first tenant, against the second."""
    # The role can send nothing about a table on which it has no right.
    reached = [table for table in seeded if table.privileges]
    for table in reached:
        of_table = _Owned if table.tenant else _Table
        made = of_table(catalogue, table, seeded[table], tenants)
        yield from made.reads()
        yield from made.inserts()
        yield from made.updates()
        yield from made.deletes()
        yield from made.merges()
        yield from made.whole_tables()
        yield from _foreign_keys(catalogue, seeded, made)
    for number, one in enumerate(reached):
        joined = (_join(one, other) for other in reached[number + 1 :])
        yield from itertools.islice(itertools.chain.from_iterable(joined), NEIGHBOURS)
    for relation in catalogue.relations.values():
        if relation.kind in ("v", "m") and relation.privileges:
            yield from _view(relation, seeded)
    for sequence in catalogue.sequences:
        yield Statement(
            sequence,
            "setval",
            "select setval('{}', 1, false)".format(sequence.replace("'", "''")),
            forbidden="set back a sequence that all tenants share",
        )
    values = _values_by_type(seeded, tenants[1])
    for function in catalogue.functions:
        yield from _calls(function, values)


def without_tenant(seeded: Seeded) -> Iterator[Statement]:
    """Yields the statements that must see and change nothing where no tenant is set."""
    for table, rows in seeded.items():
        if not table.privileges:
            continue
        own, c = rows.own[-1], _changeable(table)
        yield Statement(table.sql, "select", count_of_tenants(table), table)
        yield Statement(table.sql, "update", f"update {table.sql} set {_same(c, own)}", table)
        yield Statement(table.sql, "delete", f"delete from {table.sql}", table)
        yield Statement(
            table.sql, "insert", insertion(table, own), table, setup=removal(table, own)
        )


def count_of_tenants(table: Relation) -> str:
    """Returns the query for the number of rows that belong to a tenant."""
    query = f"select count(*) from {table.sql}"
    if not table.is_shared:
        return query
    return f"{query} where {table.columns[table.tenant or ''].sql} is not null"


class _Table:
    """The statements about one table, whose rows belong to a tenant by what they refer to."""

    def __init__(
        self, catalogue: Catalogue, table: Relation, rows: Rows, tenants: tuple[str, str]
    ) -> None:
        self.table = table
        self.name = table.sql
        self.mine, self.theirs = rows.own[-1], rows.others[0]
        self.spare = rows.others[-1]  # the other's row that is free to be inserted
        selected = table.may("SELECT")
        self.columns = (
            "*"
            if len(selected) in (0, len(table.columns))
            else ", ".join(column.sql for column in selected)
        )
        self.key = table.key
        self.my_key = condition(self.key, self.mine)
        self.their_key = condition(self.key, self.theirs)
        self.returning = f"returning {self.columns}"
        self.changed = _changeable(table)
        self.set = _same(self.changed, self.mine)
        self.unreferenced = unreferenced(catalogue, table, tenants)

    def set_from(self, source: str) -> str:
        return _same(self.changed, self.mine, source)

    def make(self, kind: str, sql: str, **options: Any) -> Statement:
        return Statement(self.name, kind, sql, self.table, **options)

    def change(self, kind: str, sql: str, **options: Any) -> Statement:
        """Makes a statement that other rows may prevent, by a reference to its own."""
        return self.make(kind, sql, unreferenced=self.unreferenced, **options)

    def reads(self) -> Iterator[Statement]:
        for kind, query in self._selects().items():
            yield self.make(kind, query, own=kind in ("select", "copy to"), reads=True)
        listed = ", ".join(column.sql for column in self._stored())
        yield self.make("copy table to", f"copy {self.name} ({listed}) to stdout", reads=True)

    def _selects(self) -> dict[str, str]:
        name, columns = self.name, self.columns
        return {
            "select": f"select {columns} from {name}",
            "select by the other's key": f"select {columns} from {name} where {self.their_key}",
            "count": f"select count(*) from {name}",
            "window": f"select count(*) over () from {name}",
            "exists": f"select exists (select from {name} where {self.their_key})",
            "alias": f"select count(*) from {name} as one, {name} as other",
            "subquery": f"select * from (select {columns} from {name}) as rows",
            "scalar subquery": f"select (select count(*) from {name})",
            "cte": f"with rows as materialized (select {columns} from {name}) select * from rows",
            "whole row": f"select count(r) from (select r from {name} as r) as rows",
            "sample": f"select count(*) from {name} tablesample system (100)",
            "for update": f"select {columns} from {name} for update",
            "for share": f"select {columns} from {name} for share",
            "copy to": f"copy (select {columns} from {name}) to stdout",
        }

    def inserts(self) -> Iterator[Statement]:
        if any(
            column.is_required and not (column.has_default or column.is_generated)
            for column in self.table.columns.values()
            if column not in self._inserted()
        ):
            return  # the role may insert no row, as it may not give all that a row needs
        mine, free = removal(self.table, self.mine), removal(self.table, self.spare)
        own, foreign = insertion(self.table, self.mine), insertion(self.table, self.spare)
        theirs = insertion(self.table, self.theirs)
        yield self.make("insert", own, setup=mine, own=True, effect=1)
        yield self.make(
            "insert returning", f"{own} {self.returning}", setup=mine, own=True, effect=1
        )
        yield self.make("insert for the other", foreign, setup=free)
        yield self.make("insert for the other returning", f"{foreign} {self.returning}", setup=free)
        yield self.make("insert the other's key", theirs)
        yield self.make("on conflict do nothing", f"{theirs} on conflict do nothing")
        target = self._conflict_target()
        if target:
            yield self.make(
                "on conflict do update",
                f"{theirs} on conflict ({target}) do update set {self.set_from('excluded.')} "
                f"{self.returning}",
            )
            yield self.make(
                "own on conflict do update",
                f"{own} on conflict ({target}) do update set {self.set_from('excluded.')}",
                own=True,
                effect=0,
            )
        for unique in self.table.unique:
            copy = self._like_theirs(unique)
            if copy is None:
                continue
            like = insertion(self.table, copy)
            yield self.make(f"insert with the other's {unique.name}", like, setup=mine)
            yield self.make(
                f"on conflict do nothing with the other's {unique.name}",
                f"{like} on conflict do nothing returning 1",
                setup=mine,
            )

    def updates(self) -> Iterator[Statement]:
        name, to, returning = self.name, self.set, self.returning
        yield self.change(
            "update", f"update {name} set {to} where {self.my_key}", own=True, effect=0
        )
        yield self.change("update the other's", f"update {name} set {to} where {self.their_key}")
        yield self.change(
            "update the other's returning",
            f"update {name} set {to} where {self.their_key} {returning}",
        )
        yield self.change("update all", f"update {name} set {to}")
        if not any(self.changed.name in unique.columns for unique in self.table.unique):
            # Policies for SELECT do not bind an update that reads no column.
            blind = f"{self.changed.sql} = {cell(self.changed, self.mine[self.changed.name])}"
            yield self.change("update blindly", f"update {name} set {blind}")
        yield self.change("update all returning", f"update {name} set {to} {returning}")

    def deletes(self) -> Iterator[Statement]:
        name, returning = self.name, self.returning
        yield self.change("delete", f"delete from {name} where {self.my_key}", own=True, effect=-1)
        yield self.change("delete the other's", f"delete from {name} where {self.their_key}")
        yield self.change(
            "delete the other's returning",
            f"delete from {name} where {self.their_key} {returning}",
        )
        yield self.change("delete all", f"delete from {name}")
        yield self.change("delete all returning", f"delete from {name} {returning}")

    def merges(self) -> Iterator[Statement]:
        name = self.name
        for kind, keys, own in (
            ("merge", self.my_key, True),
            ("merge the other's", self.their_key, False),
        ):
            yield self.change(
                f"{kind}: update",
                f"merge into {name} using (select 1) as source on {keys} "
                f"when matched then update set {self.set}",
                own=own,
                effect=0 if own else None,
            )
            yield self.change(
                f"{kind}: delete",
                f"merge into {name} using (select 1) as source on {keys} when matched then delete",
                own=own,
                effect=-1 if own else None,
            )
        columns, values = _listed(self.table, self.spare)
        yield self.make(
            "merge for the other: insert",
            f"merge into {name} using (select 1) as source on false when not matched then "
            f"insert ({columns}) {_overriding(self.table)}values ({values})",
            setup=removal(self.table, self.spare),
        )

    def whole_tables(self) -> Iterator[Statement]:
        name = self.name
        yield self.make(
            "truncate", f"truncate {name} cascade", forbidden="remove the rows of every tenant"
        )
        yield self.make("lock", f"lock table {name} in access share mode")
        columns = [c for c in self._inserted() if self.spare[c.name] is not None]
        data = "\t".join(_copied(self.spare[column.name] or "") for column in columns)
        yield self.make(
            "copy from",
            f"copy {name} ({', '.join(column.sql for column in columns)}) from stdin",
            copied=f"{data}\n",
            setup=removal(self.table, self.spare),
        )

    def _stored(self) -> list[Column]:
        return [column for column in self.table.columns.values() if not column.is_generated]

    def _inserted(self) -> list[Column]:
        return _insertable(self.table)

    def _conflict_target(self) -> str:
        may = {column.name for column in self._inserted()}
        for unique in self.table.unique:
            if unique.is_key and may.issuperset(unique.columns):
                return ", ".join(self.table.columns[name].sql for name in unique.columns)
        return ""

    def _like_theirs(self, unique: Unique) -> Row | None:
        """Returns the tenant's own row, with the other's values in a unique index's columns."""
        # A row that refers to the other's rows is the other's; that is another statement.
        kept = {self.table.tenant}
        if not self.table.tenant:
            kept |= {own for key in self.table.foreign_keys for own, _ in key.pairs}
        copied = {
            name: self.theirs[name]
            for name in unique.columns
            if name not in kept and not self.table.columns[name].is_generated
        }
        return {**self.mine, **copied} if copied else None


class _Owned(_Table):
    """The statements about one table with a column that names the tenant."""

    def __init__(
        self, catalogue: Catalogue, table: Relation, rows: Rows, tenants: tuple[str, str]
    ) -> None:
        super().__init__(catalogue, table, rows, tenants)
        self.tenant = table.columns[table.tenant or ""]
        self.me = cell(self.tenant, tenants[0])
        self.other = cell(self.tenant, tenants[1])

    def _selects(self) -> dict[str, str]:
        name, columns, tenant = self.name, self.columns, self.tenant.sql
        return {
            **super()._selects(),
            "select by the other's tenant":
                f"select {columns} from {name} where {tenant} = {self.other}",
            "select with or": f"select count(*) from {name} where {tenant} = {self.me} or true",
            "group by": f"select {tenant}, count(*) from {name} group by {tenant}",
            "not in": f"select {self.other} not in (select {tenant} from {name})",
            "lateral":
                f"select count(*) from {name} as one, "
                f"lateral (select from {name} where {tenant} <> one.{tenant}) as other",
            "union": f"select {tenant} from {name} union all select {tenant} from {name}",
            "except": f"select {tenant} from {name} except select {self.me}",
            "array": f"select array_agg({tenant}::text) from {name}",
            "cursor":
                f"declare leak_check_{self.table.oid} scroll cursor for "
                f"select {tenant} from {name}; fetch all from leak_check_{self.table.oid}",
        }  # fmt: skip

    def inserts(self) -> Iterator[Statement]:
        found = list(super().inserts())
        yield from found
        if not found:
            return
        name, tenant = self.name, self.tenant.sql
        listed = ", ".join(column.sql for column in self._inserted())
        yield self.make(
            "insert select",
            f"insert into {name} ({listed}) {_overriding(self.table)}"
            f"select {listed} from {name} on conflict do nothing",
        )
        yield self.make(
            "insert select of the other's",
            f"insert into {name} ({listed}) {_overriding(self.table)}"
            f"select {self._as(self.me)} from {name} where {tenant} = {self.other}",
        )
        yield self.make(
            "insert select for the other",
            f"insert into {name} ({listed}) {_overriding(self.table)}"
            f"select {self._as(self.other)} from {name} where {self.my_key}",
        )
        if self.table.is_shared:
            yield self.make(
                "insert for no tenant",
                insertion(self.table, {**self.mine, self.tenant.name: None}),
                setup=removal(self.table, self.mine),
            )

    def updates(self) -> Iterator[Statement]:
        yield from super().updates()
        name, tenant = self.name, self.tenant.sql
        yield self.change(
            "update from",
            f"update {name} as mine set {self.set_from('mine.')} from {name} as source "
            f"where source.{tenant} <> {self.me} and mine.{tenant} = {self.me}",
        )
        yield self.change(
            "update the other's from",
            f"update {name} as theirs set {self.set_from('theirs.')} from (select 1) as source "
            f"where theirs.{tenant} = {self.other}",
        )
        given = ", ".join([f"{tenant} = {self.other}", *self._parents(self.theirs)])
        yield self.change("give away", f"update {name} set {given} where {self.my_key}")
        taken = ", ".join([f"{tenant} = {self.me}", *self._parents(self.mine)])
        yield self.change("take", f"update {name} set {taken} where {self.their_key}")
        yield self.change("take blindly", f"update {name} set {tenant} = {self.me}")
        if self.table.is_shared:
            yield self.change(
                "give to no tenant", f"update {name} set {tenant} = null where {self.my_key}"
            )

    def deletes(self) -> Iterator[Statement]:
        yield from super().deletes()
        name, tenant = self.name, self.tenant.sql
        yield self.change(
            "delete using",
            f"delete from {name} as theirs using {name} as source "
            f"where theirs.{tenant} = {self.other} and source.{tenant} <> {self.me}",
        )

    def _as(self, tenant: str) -> str:
        return ", ".join(
            tenant if column is self.tenant else column.sql for column in self._inserted()
        )

    def _parents(self, row: Row) -> list[str]:
        """Returns the assignments of the row's references, without the tenant."""
        may = {column.name for column in self.table.may("UPDATE")}
        names = {
            name: row[name]
            for foreign_key in self.table.foreign_keys
            for name, _ in foreign_key.pairs
            if name != self.tenant.name
        }
        if not names.keys() <= may:
            return []
        columns = self.table.columns
        return [f"{columns[name].sql} = {cell(columns[name], v)}" for name, v in names.items()]


def _foreign_keys(catalogue: Catalogue, seeded: Seeded, made: _Table) -> Iterator[Statement]:
    table = made.table
    for foreign_key in table.foreign_keys:
        parent = catalogue.relations[foreign_key.parent]
        on = " and ".join(
            f"child.{table.columns[own].sql} = parent.{parent.columns[parents].sql}"
            for own, parents in foreign_key.pairs
        )
        for kind in ("join", "left join", "full join"):
            yield made.make(
                f"{kind} over {foreign_key.name}",
                f"select count(*), count(child.*), count(parent.*) "
                f"from {table.sql} as child {kind} {parent.sql} as parent on {on}",
                reads=True,
                joined=(parent,),
            )
        yield made.make(
            f"semi-join over {foreign_key.name}",
            f"select count(*) from {parent.sql} as parent "
            f"where exists (select from {table.sql} as child where {on})",
            reads=True,
            joined=(parent,),
        )
        if parent not in seeded:
            continue
        theirs = {
            own: seeded[parent].others[0][parents]
            for own, parents in foreign_key.pairs
            if own != table.tenant
        }
        if not theirs or None in theirs.values():
            continue
        yield made.make(
            f"insert with the other's {foreign_key.name}",
            insertion(table, {**made.mine, **theirs}),
            setup=removal(table, made.mine),
        )
        to = ", ".join(
            f"{table.columns[n].sql} = {cell(table.columns[n], v)}" for n, v in theirs.items()
        )
        yield made.change(
            f"update to the other's {foreign_key.name}",
            f"update {table.sql} set {to} where {made.my_key}",
        )


def _join(one: Relation, other: Relation) -> Iterator[Statement]:
    for name, left in one.columns.items():
        right = other.columns.get(name)
        if right is None or left.base != right.base or not left.is_comparable:
            continue
        if name in (one.tenant, other.tenant):
            continue
        yield Statement(
            f"{one.sql} and {other.sql}",
            f"join on {name}",
            f"select count(*), count(one.*), count(other.*) from {one.sql} as one "
            f"full join {other.sql} as other on one.{left.sql} = other.{right.sql}",
            reads=True,
            joined=(one, other),
        )
        return


def _view(view: Relation, seeded: Seeded) -> Iterator[Statement]:
    if "SELECT" in view.privileges:
        yield Statement(view.sql, "select from a view", f"select * from {view.sql}", view)
        yield Statement(view.sql, "count of a view", f"select count(*) from {view.sql}", view)
    if view.definition and not view.is_invoker:
        query = view.definition.rstrip().removesuffix(";")
        yield Statement(view.sql, THE_VIEWS_QUERY, f"select * from ({query}) as rows", view)
    base = next((table for table in seeded if table.oid == view.base), None)
    stored = base.columns if base is not None else {}
    given = [
        name
        for name in view.updatable_columns
        if name not in stored or not stored[name].is_generated
    ]
    changed = [column for column in view.may("UPDATE") if column.name in given]
    if view.updatable & 4 and changed:
        c = changed[0].sql
        yield Statement(view.sql, "update a view", f"update {view.sql} set {c} = {c}", view)
    if view.updatable & 16 and "DELETE" in view.privileges:
        yield Statement(view.sql, "delete from a view", f"delete from {view.sql}", view)
    inserted = [column for column in view.may("INSERT") if column.name in given]
    if (
        view.updatable & 8
        and base is not None
        and inserted
        and {column.name for column in inserted} <= base.columns.keys()
    ):
        row = seeded[base].others[-1]
        names = ", ".join(column.sql for column in inserted)
        values = ", ".join(cell(column, row[column.name]) for column in inserted)
        yield Statement(
            view.sql,
            "insert into a view",
            f"insert into {view.sql} ({names}) {_overriding(base)}values ({values})",
            view,
            setup=removal(base, row),
        )


def _values_by_type(seeded: Seeded, other: str) -> dict[str, dict[str, str]]:
    """Returns the other tenant's values, by type and by the column's name."""
    found: dict[str, dict[str, str]] = {}
    for table, rows in seeded.items():
        for column in table.columns.values():
            value = rows.others[0][column.name]
            if value is None:
                continue
            names = found.setdefault(column.base, {})
            if column.name == table.tenant:
                names[""] = other
            names.setdefault(column.name, value)
            names.setdefault(f"{table.name.rstrip('s')}_{column.name}", value)
    return found


def _calls(function: Function, values: Mapping[str, Mapping[str, str]]) -> Iterator[Statement]:
    verb = "call" if function.is_procedure else "select * from"
    made = Values()
    pools: list[list[str]] = []
    for name, type_ in function.arguments:
        known = values.get(type_, {})
        bare = name.removeprefix("p_").removeprefix("in_").strip("_")
        named = [known[key] for key in (bare, name) if key in known]
        pool = list(dict.fromkeys(named or known.values()))[:CALLS]
        if not pool:
            value = made.first(Column(0, name, type_, type_, "b", -1, *_UNKNOWN))
            pool = ["" if value is None else value]
            if value is None:
                pools.append([f"null::{type_}"])
                continue
        pools.append([f"'{value.replace(chr(39), chr(39) * 2)}'::{type_}" for value in pool])
    # Values of one row stand at the same place in each pool.
    rows = zip(*(itertools.islice(itertools.cycle(pool), CALLS) for pool in pools), strict=True)
    called = dict.fromkeys([*list(rows)[: max(map(len, pools), default=1)], *_products(pools)])
    for arguments in itertools.islice(called or [()], CALLS):
        yield Statement(
            function.signature, "call", f"{verb} {function.sql}({', '.join(arguments)})"
        )


def _products(pools: Sequence[Sequence[str]]) -> Iterator[tuple[str, ...]]:
    return itertools.islice(itertools.product(*pools), CALLS)


_UNKNOWN: Final = (False, True, False, False, False, (), frozenset[str]())


def _changeable(table: Relation) -> Column:
    """Returns the column that updates set: of those that the role may set, one of no key."""
    held = {name for unique in table.unique for name in unique.columns}
    held |= {name for foreign_key in table.foreign_keys for name, _ in foreign_key.pairs}
    held |= {table.tenant or ""}
    columns = [c for c in table.columns.values() if not (c.is_generated or c.is_identity)]
    may = [column for column in columns if "UPDATE" in column.privileges]
    for pool in (may, columns):
        for column in pool:
            if column.name not in held:
                return column
    return (may or columns)[0]


def _same(column: Column, row: Row, source: str = "") -> str:
    """Returns the assignment of a column to itself, or to the row's value where it is hidden."""
    same = f"{source}{column.sql}"
    if "SELECT" not in column.privileges and source != "excluded.":
        same = cell(column, row[column.name])
    return f"{column.sql} = {same}"


def _insertable(table: Relation) -> list[Column]:
    may = table.may("INSERT") or list(table.columns.values())
    return [column for column in may if not column.is_generated]


def _listed(table: Relation, row: Row, *, by_superuser: bool = False) -> tuple[str, str]:
    columns = _insertable(table)
    if by_superuser:
        columns = [column for column in table.columns.values() if not column.is_generated]
    names = ", ".join(column.sql for column in columns)
    return names, ", ".join(cell(column, row[column.name]) for column in columns)


def _overriding(table: Relation) -> str:
    is_identity = any(column.is_identity for column in table.columns.values())
    return "overriding system value " if is_identity else ""


def insertion(table: Relation, row: Row, *, by_superuser: bool = False) -> str:
    """Returns the statement that inserts a row; the role gives the columns that it may give."""
    columns, values = _listed(table, row, by_superuser=by_superuser)
    return f"insert into {table.sql} ({columns}) {_overriding(table)}values ({values})"


def removal(table: Relation, row: Row) -> str:
    """Returns the SQL that removes a row without its triggers and foreign keys."""
    return (
        "set local session_replication_role = replica; "
        f"delete from {table.sql} where {condition(table.key, row)}; "
        "set local session_replication_role = origin"
    )


def unreferenced(catalogue: Catalogue, table: Relation, tenants: tuple[str, str]) -> str:
    """Returns the SQL after which no row refers to the two tenants' rows of a table.

    Rows that go with the row to which they refer are kept; the rows that refer to those go.
    """
    owner = table.owned_by.replace("{row}", "referred0")
    both = ", ".join(literal(tenant) for tenant in tenants)
    oid = table.parent if catalogue.is_part(table) and table.parent else table.oid
    parts = list(
        _without_referrers(
            catalogue, oid, table.sql, f"{owner} in ({both})", frozenset({oid, table.oid})
        )
    )
    if not parts:
        return ""
    return (
        "set local session_replication_role = replica; "
        + "; ".join(parts)
        + "; set local session_replication_role = origin"
    )


def _without_referrers(
    catalogue: Catalogue, oid: int, table: str, which: str, seen: frozenset[int], depth: int = 0
) -> Iterator[str]:
    for key in catalogue.referrers.get(oid, ()):
        parent, child = f"referred{depth}", f"referred{depth + 1}"
        on = " and ".join(f"{child}.{own} = {parent}.{parents}" for own, parents, _ in key.pairs)
        refers = f"exists (select from {table} as {parent} where {on} and {which})"
        if key.child == oid:
            # A row may always refer to itself.
            to = ", ".join(
                f"{own} = {f'{child}.{parents}' if is_set else 'null'}"
                for own, parents, is_set in key.pairs
            )
            yield f"update {table} as {child} set {to} where {refers}"
        elif not key.cascades:
            yield f"delete from {key.sql} as {child} where {refers}"
        elif key.child not in seen:
            yield from _without_referrers(
                catalogue, key.child, key.sql, refers, seen | {key.child}, depth + 1
            )


def _copied(value: str) -> str:
    for character, escaped in (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r")):
        value = value.replace(character, escaped)
    return value
