"""The statements that the leak check sends through the application's mapped classes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Executable,
    Table,
    delete,
    func,
    insert,
    select,
    text,
    union_all,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Mapper, Session, aliased, class_mapper
from sqlalchemy.orm.exc import UnmappedClassError

from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.testing.leaks._catalogue import Relation
from temporal_tenancy.testing.leaks._rows import Row, condition
from temporal_tenancy.testing.leaks._statements import Rows, Send, Statement, removal

Answer = Iterable[tuple[Any, ...]]


def mappers_of(models: Iterable[type]) -> list[Mapper[Any]]:
    """Returns the mappers of mapped classes, and of all classes of declarative bases.

    Raises:
        ConfigurationError: one of the classes is neither.
    """
    found: dict[Mapper[Any], None] = {}
    for model in models:
        try:
            found[class_mapper(model)] = None
        except UnmappedClassError:
            registry = getattr(model, "registry", None)
            if registry is None:
                raise ConfigurationError(
                    f"{model.__qualname__} is no mapped class and no declarative base. "
                    "Give the leak check the classes of your tables, or their base."
                ) from None
            found |= dict.fromkeys(registry.mappers)
    return list(found)


def table_of(mapper: Mapper[Any], relations: Iterable[Relation]) -> Relation | None:
    """Returns the table that a mapper maps alone; None if there is none in the database."""
    mapped = mapper.local_table
    if not isinstance(mapped, Table):
        return None
    for relation in relations:
        schema = relation.sql.partition(".")[0].strip('"')
        if relation.name == mapped.name and schema == (mapped.schema or schema):
            return relation
    return None


def orm_statements(
    mapper: Mapper[Any], table: Relation, rows: Rows, superuser: Connection
) -> Iterator[Statement]:
    """Yields the statements of the first tenant through one mapped class."""
    if mapper.inherits is None and (table.tenant or "") in mapper.local_table.c:
        yield from _Mapped(mapper, table, rows, superuser).statements()


@dataclass(frozen=True)
class _Mapped:
    mapper: Mapper[Any]
    table: Relation
    rows: Rows
    superuser: Connection

    def statements(self) -> Iterator[Statement]:
        mapper, table = self.mapper, self.table
        model, name = mapper.class_, mapper.class_.__name__
        mine, theirs, spare = self.rows.own[-1], self.rows.others[0], self.rows.others[-1]
        keys = [self.attribute(column.name) for column in mapper.primary_key]
        tenant = self.attribute(table.tenant or "")
        values, own = self.values(theirs), self.values(mine)
        their_key = tuple(values.get(key.key) for key in keys)
        is_theirs = self.is_row(theirs)
        other = aliased(model)
        same = {keys[-1].key: keys[-1]}
        free = removal(table, spare)

        def rows_of(query: Executable) -> Send:
            return lambda session: [tuple(row) for row in session.execute(query)]

        def done(query: Executable, *parameters: dict[str, Any]) -> Send:
            def send(session: Session) -> Answer:
                result = session.execute(query, list(parameters) or None)
                return [()] * max(getattr(result, "rowcount", 0), 0)

            return send

        def loaded(session: Session) -> Answer:
            found = session.scalars(select(model)).unique()
            return [tuple(mapper.primary_key_from_instance(row)) for row in found]

        def add(session: Session) -> Answer:
            row = mapper.class_manager.new_instance()
            for attribute, value in own.items():
                setattr(row, attribute, value)
            session.add(row)
            session.flush()
            return [()]

        yield self.make(f"select({name})", loaded, reads=True)
        yield self.make(
            f"select(func.count()).select_from({name})",
            rows_of(select(func.count()).select_from(model)),
            reads=True,
        )
        yield self.make(
            f"session.get({name}, <the other's key>)",
            lambda session: [(session.get(model, their_key) is None,)],
            reads=True,
        )
        yield self.make(
            f"select({name}).join(<alias>)",
            rows_of(
                select(func.count())
                .select_from(model)
                .join(other, getattr(other, tenant.key) == tenant)
            ),
            reads=True,
        )
        yield self.make(
            f"select(exists({name}))",
            rows_of(select(select(*keys).where(*is_theirs).exists())),
            reads=True,
        )
        yield self.make(
            f"select(select({name}).cte())", rows_of(select(select(*keys).cte())), reads=True
        )
        yield self.make(
            f"union_all(select({name}), …)",
            rows_of(union_all(select(*keys), select(*keys))),
            reads=True,
        )
        for relationship in mapper.relationships:
            yield self.make(
                f"select({name}).join({name}.{relationship.key})",
                rows_of(
                    select(func.count())
                    .select_from(model)
                    .join(relationship.class_attribute, isouter=True)
                ),
                reads=True,
            )
        yield self.make(
            f"insert({name}), [<a row of the other>]",
            done(insert(model), self.values(spare)),
            setup=free,
        )
        yield self.make(
            f"insert({name}).values(<a row of the other>)",
            done(insert(model).values(self.values(spare))),
            setup=free,
        )
        yield self.make(
            f"insert({name}).on_conflict_do_nothing()",
            done(postgresql.insert(model).values(values).on_conflict_do_nothing()),
        )
        yield self.make(
            f"session.add({name}(…))", add, setup=removal(table, mine), own=True, effect=1
        )
        yield self.make(f"update({name})", done(update(model).values(same)))
        yield self.make(
            f"update({name}).where(<the other's key>)",
            done(update(model).where(*is_theirs).values(same)),
        )
        yield self.make(
            f"update({name}).values({tenant.key}=<the other>)",
            done(
                update(model).where(*self.is_row(mine)).values({tenant.key: values.get(tenant.key)})
            ),
        )
        yield self.make(f"delete({name})", done(delete(model)))
        yield self.make(
            f"delete({name}).where(<the other's key>)", done(delete(model).where(*is_theirs))
        )

    def make(self, shown: str, send: Send, **options: Any) -> Statement:
        return Statement(self.table.sql, "ORM", shown, self.table, send=send, **options)

    def attribute(self, column: str) -> Any:
        """Returns the class's attribute of a column."""
        mapped = self.mapper.local_table.c[column]
        return self.mapper.get_property_by_column(mapped).class_attribute

    def is_row(self, row: Row) -> list[ColumnElement[bool]]:
        return [text(condition(self.table.key, row, f"{self.table.sql}."))]  # type: ignore[list-item]

    def values(self, row: Row) -> dict[str, Any]:
        """Returns a row's values by attribute, as the class has them."""
        columns = {
            attribute.key: attribute.columns[0]
            for attribute in self.mapper.column_attrs
            if self._is_written(attribute.columns[0])
        }
        query = select(*columns.values()).where(text(condition(self.table.key, row)))
        found = self.superuser.execute(query).one()
        return dict(zip(columns, found, strict=True))

    def _is_written(self, column: ColumnElement[Any]) -> bool:
        known = self.table.columns.get(getattr(column, "name", ""))
        if known is None or getattr(column, "table", None) is not self.mapper.local_table:
            return False
        return not known.is_generated and "INSERT" in (known.privileges or {"INSERT"})
