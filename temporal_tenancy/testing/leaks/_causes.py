"""Why a tenant reached another's rows, as far as the catalogue tells."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from temporal_tenancy.testing.leaks._catalogue import Catalogue, Relation
from temporal_tenancy.testing.leaks._statements import Statement

# Kinds of statements that end in the name of a unique index or a foreign key.
_OF_A_KEY: Final = re.compile(
    r"(?:insert with|on conflict do nothing with|update to) the other's (.+)", re.DOTALL
)


def cause_of(
    statement: Statement, catalogue: Catalogue, role: str, mighty: str, constraint: str = ""
) -> str:
    """Returns why a statement could reach other tenants' rows; nothing if the catalogue is sound.

    Args:
        statement: what reached them.
        catalogue: of the database.
        role: the runtime role.
        mighty: what lets the role past every policy, such as "BYPASSRLS"; or nothing.
        constraint: the unique index or foreign key that refused it, whatever its kind; or nothing.
    """
    table = statement.table
    key = _OF_A_KEY.fullmatch(statement.kind)
    named = {constraint, key[1] if key is not None else ""}
    if table is not None:
        for name, columns, kind in _keys(table):
            if name in named and (table.tenant is None or table.tenant not in columns):
                return f"the {kind} {name} does not contain the tenant's column"
    for function in catalogue.functions:
        if function.signature == statement.object and function.definer:
            return f"the function is SECURITY DEFINER, with the rights of {function.definer}"
    if mighty:
        return f"{role} has {mighty}, and no policy binds it"
    reached = [table] if table is not None else []
    for relation in (*reached, *statement.joined):
        if cause := _of_relation(relation, role):
            return cause
    return ""


def _keys(table: Relation) -> Iterator[tuple[str, Iterable[str], str]]:
    for unique in table.unique:
        yield unique.name, unique.columns, "unique index"
    for key in table.foreign_keys:
        yield key.name, [own for own, _ in key.pairs], "foreign key"


def _of_relation(relation: Relation, role: str) -> str:
    if relation.kind == "m":
        return "a materialized view has no policies"
    if relation.kind == "v":
        if relation.is_invoker:
            return ""
        return f"the view reads with the rights of its owner {relation.owner}"
    if relation.is_partition and not relation.is_secured:
        return (
            "the role has rights on the partition, and the parent's policies do not bind it there"
        )
    if not relation.is_secured:
        return "row-level security is not enabled"
    if relation.is_open:
        return f"{role} owns the table, whose row-level security is not forced"
    for policy in relation.open_policies:
        return f"the policy {policy} lets every row through"
    return ""
