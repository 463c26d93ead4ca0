"""What the leak check reads from the system catalogue: tables, their columns, views, functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg
from psycopg.rows import dict_row

# Only what applications create: no system schemas, and nothing that belongs to an extension.
_SCHEMAS: Final = """
    select oid from pg_namespace
    where nspname !~ '^pg_' and nspname <> 'information_schema'
        and has_schema_privilege(%(role)s, oid, 'USAGE')
"""
_RELATIONS: Final = f"""
    select
        class.oid, relname as name, format('%%I.%%I', nspname, relname) as sql, relkind as kind,
        relispartition as is_partition,
        (select inhparent from pg_inherits where inhrelid = class.oid limit 1) as parent,
        pg_get_expr(relpartbound, class.oid) as bound,
        (
            select partattrs[0] from pg_partitioned_table where partrelid = class.oid
        ) as partition_key,
        (
            select array_agg(privilege) from unnest(
                array['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']
            ) as privilege
            where has_table_privilege(%(role)s, class.oid, privilege) or (
                privilege not in ('DELETE', 'TRUNCATE')
                and has_any_column_privilege(%(role)s, class.oid, privilege)
            )
        ) as privileges,
        case when relkind = 'f' then 0 else pg_relation_is_updatable(class.oid, true) end
            as updatable,
        pg_get_userbyid(relowner) as owner,
        relrowsecurity as is_secured, relforcerowsecurity as is_forced,
        relkind = 'v' and 'security_invoker' = any(
            select option_name from pg_options_to_table(reloptions) where option_value::boolean
        ) as is_invoker,
        not relrowsecurity or owns.bypasses
            or (owns.may and not relforcerowsecurity) as is_open,
        (
            select array_agg(distinct command)
            from pg_policy, unnest(
                case polcmd
                    when 'r' then array['SELECT'] when 'a' then array['INSERT']
                    when 'w' then array['UPDATE'] when 'd' then array['DELETE']
                    else array['SELECT', 'INSERT', 'UPDATE', 'DELETE']
                end
            ) as command
            where polrelid = class.oid and polpermissive and (
                polroles = '{{0}}' or exists (
                    select from unnest(polroles) as granted
                    where pg_has_role(%(role)s, granted, 'USAGE')
                )
            )
        ) as allowed,
        (
            select array_agg(polname order by polname)
            from pg_policy
            where polrelid = class.oid and polpermissive and 'true' in (
                pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)
            ) and (
                polroles = '{{0}}' or exists (
                    select from unnest(polroles) as granted
                    where pg_has_role(%(role)s, granted, 'USAGE')
                )
            )
        ) as open_policies,
        case when relkind = 'v' then pg_get_viewdef(class.oid) end as definition,
        (
            select min(refobjid::bigint)
            from pg_rewrite
            join pg_depend on classid = 'pg_rewrite'::regclass and objid = pg_rewrite.oid
                and refclassid = 'pg_class'::regclass and refobjid <> class.oid
            where ev_class = class.oid and relkind = 'v'
            having count(distinct refobjid) = 1
        ) as base,
        array(
            select attname from pg_attribute
            where relkind = 'v' and attrelid = class.oid and attnum > 0
                and pg_column_is_updatable(class.oid, attnum, true)
        ) as updatable_columns,
        (
            select array_agg(distinct refobjsubid)
            from pg_policy
            join pg_depend on classid = 'pg_policy'::regclass and objid = pg_policy.oid
                and refclassid = 'pg_class'::regclass and refobjid = class.oid and refobjsubid > 0
            where polrelid = class.oid and concat(
                pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)
            ) like '%%app.tenant_id%%'
        ) as policy_columns
    from pg_class as class
    join pg_namespace on pg_namespace.oid = relnamespace
    cross join lateral (
        select rolsuper or rolbypassrls as bypasses,
            pg_has_role(pg_roles.oid, relowner, 'USAGE') as may
        from pg_roles where rolname = %(role)s
    ) as owns
    where relnamespace in ({_SCHEMAS}) and relkind in ('r', 'p', 'v', 'm', 'f') and not exists (
        select from pg_depend
        where classid = 'pg_class'::regclass and objid = class.oid and deptype = 'e'
    )
    order by sql
"""
_COLUMNS: Final = """
    select
        attrelid as table_oid, attnum as number, attname as name,
        format_type(atttypid, atttypmod) as type, atttypmod as modifier,
        format_type(below.oid, null) as base,
        pg_type.typtype = 'd' as is_domain,
        attnotnull or (
            with recursive domains as (
                select pg_type.typbasetype as next, pg_type.typnotnull as is_required
                union all
                select typbasetype, typnotnull from pg_type as t join domains on t.oid = next
            )
            select bool_or(is_required) from domains
        ) as is_required,
        atthasdef or attidentity <> '' or pg_type.typdefault is not null as has_default,
        attgenerated <> '' as is_generated, attidentity = 'a' as is_identity,
        below.typtype as kind,
        part.typcategory <> 'G' and (part.typcategory in ('S', 'E', 'R') or exists (
            select from pg_operator
            where oprname = '=' and oprleft = part.oid and oprright = part.oid
        )) as is_comparable,
        (select array_agg(enumlabel order by enumsortorder) from pg_enum
            where enumtypid = below.oid) as labels,
        (select array_agg(privilege) from unnest(array['SELECT', 'INSERT', 'UPDATE']) as privilege
            where has_column_privilege(%(role)s, attrelid, attnum, privilege)) as privileges
    from pg_attribute
    join pg_type on pg_type.oid = atttypid
    cross join lateral (
        with recursive types as (
            select pg_type.oid, pg_type.typtype, pg_type.typbasetype
            union all
            select t.oid, t.typtype, t.typbasetype
            from pg_type as t join types on t.oid = types.typbasetype
        )
        select oid, typtype from types where typbasetype = 0
    ) as below
    join pg_type as whole on whole.oid = below.oid
    join pg_type as part on part.oid = case
        when whole.typcategory = 'A' then whole.typelem else whole.oid
    end
    where attrelid = any(%(oids)s) and attnum > 0 and not attisdropped
    order by attrelid, attnum
"""
_CONSTRAINTS: Final = """
    select
        conrelid as table_oid, conname as name, contype as kind, conkey as columns,
        confrelid as parent, confkey as parent_columns,
        pg_get_expr(conbin, conrelid) as expression
    from pg_constraint
    where conrelid = any(%(oids)s) and contype in ('c', 'f') and conparentid = 0
    order by conrelid, conname
"""
# Also from tables that the role cannot reach.
_REFERRERS: Final = """
    select
        confrelid as table_oid, conrelid as child,
        format('%%I.%%I', nspname, relname) as sql,
        confdeltype as on_delete,
        (
            select json_agg(json_build_array(
                quote_ident(own.attname), quote_ident(parents.attname), own.attnotnull
            ))
            from unnest(conkey, confkey) as pair (own_number, parents_number)
            join pg_attribute as own on own.attrelid = conrelid and own.attnum = own_number
            join pg_attribute as parents
                on parents.attrelid = confrelid and parents.attnum = parents_number
        ) as pairs
    from pg_constraint
    join pg_class on pg_class.oid = conrelid
    join pg_namespace on pg_namespace.oid = relnamespace
    where contype = 'f' and conparentid = 0
    order by conrelid, conname
"""
# Also the columns in expressions and conditions of an index.
_UNIQUE: Final = """
    select
        indrelid as table_oid, relname as name, indisprimary as is_primary,
        indpred is null and indexprs is null and indisunique as is_plain,
        array(
            select distinct number from (
                select unnest(indkey::int2[]) as number
                union all
                select refobjsubid from pg_depend
                where classid = 'pg_class'::regclass and objid = indexrelid
                    and refclassid = 'pg_class'::regclass and refobjid = indrelid
            ) as numbers
            where number > 0
            order by number
        ) as columns
    from pg_index
    join pg_class on pg_class.oid = indexrelid
    where indrelid = any(%(oids)s) and (indisunique or indisexclusion) and indisvalid
    order by indrelid, not indisprimary, relname
"""
_SEQUENCES: Final = f"""
    select format('%%I.%%I', nspname, relname) as sql
    from pg_class
    join pg_namespace on pg_namespace.oid = relnamespace
    where relnamespace in ({_SCHEMAS}) and case relkind
        when 'S' then has_sequence_privilege(%(role)s, pg_class.oid, 'UPDATE') else false
    end
    order by sql
"""
_FUNCTIONS: Final = f"""
    select
        proname as name, format('%%I.%%I', nspname, proname) as sql, prokind as kind,
        pg_proc.oid::regprocedure::text as signature,
        coalesce(proargnames, '{{}}') as names,
        array(
            select format_type(type, null)
            from unnest(proargtypes::oid[]) with ordinality as arguments (type, place)
            order by place
        ) as types,
        coalesce(proargmodes::text[], '{{}}') as modes,
        case when prosecdef then pg_get_userbyid(proowner) else '' end as definer
    from pg_proc
    join pg_namespace on pg_namespace.oid = pronamespace
    where pronamespace in ({_SCHEMAS}) and prokind in ('f', 'p')
        and prorettype not in ('trigger'::regtype, 'event_trigger'::regtype)
        and has_function_privilege(%(role)s, pg_proc.oid, 'EXECUTE')
        and not exists (
            select from pg_depend
            where classid = 'pg_proc'::regclass and objid = pg_proc.oid and deptype in ('e', 'i')
        )
    order by signature
"""


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    number: int
    name: str
    type: str  # as SQL, with its length or precision
    base: str  # the type below a domain, without length or precision
    kind: str  # pg_type.typtype of `base`: b (base), e (enum), c (composite), r (range), ...
    modifier: int  # pg_attribute.atttypmod
    is_domain: bool
    is_required: bool
    has_default: bool
    is_generated: bool
    is_identity: bool  # GENERATED ALWAYS AS IDENTITY
    labels: tuple[str, ...]  # of an enum
    privileges: frozenset[str]  # the role's, of SELECT, INSERT and UPDATE
    is_comparable: bool = True  # whether its type has the operator `=`, for all of a value

    @property
    def sql(self) -> str:
        """The column's quoted name."""
        return quoted_name(self.name)


@dataclass(frozen=True)
class Check:
    """A check constraint."""

    name: str
    columns: tuple[str, ...]
    expression: str


@dataclass(frozen=True)
class ForeignKey:
    """A foreign key; `pairs` are its columns, each with the parent's."""

    name: str
    parent: int
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Unique:
    """A unique index or an exclusion constraint."""

    name: str
    columns: tuple[str, ...]
    is_key: bool  # unique, without expressions and conditions


@dataclass(frozen=True)
class Referrer:
    """A foreign key, from the side of the table to which it refers."""

    child: int
    sql: str  # the child's quoted name, with its schema
    cascades: bool  # ON DELETE CASCADE
    pairs: tuple[tuple[str, str, bool], ...]  # the child's column, the parent's; NOT NULL


@dataclass
class Relation:
    """A table, partition, view or materialized view."""

    oid: int
    name: str  # without its schema
    sql: str  # quoted, with its schema
    kind: str  # pg_class.relkind
    is_partition: bool
    parent: int | None  # a partition's or inheriting table's
    bound: str | None  # a partition's
    partition_key: str | None
    privileges: frozenset[str]  # the role's, at least on some of the columns
    updatable: int  # pg_relation_is_updatable()
    owner: str
    is_secured: bool  # ENABLE ROW LEVEL SECURITY
    is_forced: bool
    is_invoker: bool  # a view with the rights of who uses it
    is_open: bool  # no policy binds the role here
    allowed: frozenset[str]  # the commands for which a permissive policy names the role
    open_policies: tuple[str, ...]  # permissive ones of the role that let every row through
    definition: str | None  # a view's query
    base: int | None  # the only table or view that a view reads
    updatable_columns: tuple[str, ...]  # a view's
    columns: dict[str, Column]
    tenant: str | None = None  # the column that names the tenant
    checks: dict[str, Check] = field(default_factory=dict)
    foreign_keys: list[ForeignKey] = field(default_factory=list)
    unique: list[Unique] = field(default_factory=list)
    policy_columns: tuple[str, ...] = ()  # that a policy compares with the setting
    owned_by: str = ""  # the SQL of a row's tenant; `{row}` stands for the row
    depth: int = 0  # of foreign keys between the table and the column that names the tenant

    def __hash__(self) -> int:
        return self.oid

    @property
    def is_table(self) -> bool:
        """Whether it stores rows that statements may change."""
        return self.kind in ("r", "p")

    @property
    def is_unprotected(self) -> bool:
        """Whether the role may use it, nothing tells whose its rows are, and no policy limits it.

        The one column of Alembic's version tables, which runtime roles read, is no tenant's.
        """
        return (
            self.is_table
            and not self.owned_by
            and bool(self.privileges)
            and (self.is_open or bool(self.open_policies))
            and not (set(self.columns) == {"version_num"} and self.privileges == {"SELECT"})
        )

    @property
    def is_shared(self) -> bool:
        """Whether rows may belong to no tenant."""
        return self.tenant is not None and not self.columns[self.tenant].is_required

    @property
    def key(self) -> tuple[Column, ...]:
        """The columns that tell rows apart: of the primary key, or all."""
        for unique in self.unique:
            if unique.is_key and all(self.columns[name].is_required for name in unique.columns):
                return tuple(self.columns[name] for name in unique.columns)
        return tuple(self.columns.values())

    def may(self, privilege: str) -> list[Column]:
        """Returns the columns on which the role has the privilege."""
        return [column for column in self.columns.values() if privilege in column.privileges]


@dataclass(frozen=True)
class Function:
    """A function or procedure that the role may execute."""

    name: str
    sql: str
    signature: str
    is_procedure: bool
    arguments: tuple[tuple[str, str], ...]  # name and type of each input
    definer: str  # whose rights it has, if not those of its caller


@dataclass(frozen=True)
class Catalogue:
    """What the role can reach in one database."""

    relations: dict[int, Relation]
    functions: list[Function]
    sequences: list[str]  # quoted names, of those that the role may set
    referrers: Mapping[int, list[Referrer]]  # by the table's oid

    def owned(self) -> Iterator[Relation]:
        """Yields the tables whose rows each belong to a tenant, partitions too."""
        for relation in self.relations.values():
            if relation.is_table and relation.owned_by:
                yield relation

    def tables(self) -> Iterator[Relation]:
        """Yields the tenant-owned tables that are not a partition of another."""
        for relation in self.owned():
            if not self.is_part(relation):
                yield relation

    def is_part(self, relation: Relation) -> bool:
        """Whether it is a partition, whose rows are inserted through another table."""
        return relation.is_partition and relation.parent in self.relations


def quoted_name(name: str) -> str:
    """Returns a quoted identifier."""
    return '"' + name.replace('"', '""') + '"'


def read_catalogue(
    connection: psycopg.Connection[Any],
    role: str,
    tenant_column: str,
    tenant_columns: Mapping[str, str],
) -> Catalogue:
    """Reads what `role` can reach.

    Args:
        connection: a superuser's.
        role: the runtime role.
        tenant_column: the usual name of the column that names the tenant.
        tenant_columns: the column of tables in which it has another name; by the table's name,
            with or without its schema.
    """

    def query(statement: str, **parameters: object) -> list[dict[str, Any]]:
        with connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(statement.encode(), {"role": role, **parameters}).fetchall()

    found = query(_RELATIONS)
    oids = [row["oid"] for row in found]
    columns: dict[int, dict[int, Column]] = {oid: {} for oid in oids}
    for row in query(_COLUMNS, oids=oids):
        own = columns[row.pop("table_oid")]
        row["labels"] = tuple(row["labels"] or ())
        row["privileges"] = frozenset(row["privileges"] or ())
        own[row["number"]] = Column(**row)
    relations = {}
    for row in found:
        own = columns[row["oid"]]
        row["columns"] = {column.name: column for column in own.values()}
        row["privileges"] = frozenset(row["privileges"] or ())
        row["allowed"] = frozenset(row["allowed"] or ())
        row["open_policies"] = tuple(row["open_policies"] or ())
        row["updatable_columns"] = tuple(row["updatable_columns"])
        row["policy_columns"] = tuple(own[number].name for number in row["policy_columns"] or ())
        key = own.get(row["partition_key"] or 0)
        row["partition_key"] = key.name if key else None
        relations[row["oid"]] = Relation(**row)
    for row in query(_CONSTRAINTS, oids=oids):
        own, relation = columns[row["table_oid"]], relations[row["table_oid"]]
        names = [own[number].name for number in row["columns"] or () if number in own]
        if row["kind"] == "c":
            relation.checks[row["name"]] = Check(row["name"], tuple(names), row["expression"])
        elif row["parent"] in columns:
            parents = [columns[row["parent"]][number].name for number in row["parent_columns"]]
            pairs = tuple(zip(names, parents, strict=True))
            relation.foreign_keys.append(ForeignKey(row["name"], row["parent"], pairs))
    for row in query(_UNIQUE, oids=oids):
        own, relation = columns[row["table_oid"]], relations[row["table_oid"]]
        names = [own[number].name for number in row["columns"]]
        relation.unique.append(Unique(row["name"], tuple(names), row["is_plain"]))
    _name_tenant_columns(relations, tenant_column, tenant_columns)
    _name_owners(relations)
    referrers: dict[int, list[Referrer]] = {}
    for row in query(_REFERRERS):
        columns_of_key = tuple((own, parents, is_set) for own, parents, is_set in row["pairs"])
        referrers.setdefault(row["table_oid"], []).append(
            Referrer(row["child"], row["sql"], row["on_delete"] == "c", columns_of_key)
        )
    functions = [
        Function(
            row["name"],
            row["sql"],
            row["signature"],
            row["kind"] == "p",
            tuple(_arguments(row["names"], row["types"], row["modes"])),
            row["definer"],
        )
        for row in query(_FUNCTIONS)
    ]
    sequences = [row["sql"] for row in query(_SEQUENCES)]
    return Catalogue(relations, functions, sequences, referrers)


def _arguments(names: list[str], types: list[str], modes: list[str]) -> Iterator[tuple[str, str]]:
    named = names or [""] * len(modes)
    inputs = [
        name
        for name, mode in zip(named, modes or ["i"] * len(named), strict=True)
        if mode in ("i", "b", "v")
    ]
    inputs += [""] * (len(types) - len(inputs))
    yield from zip(inputs, types, strict=True)


def _name_tenant_columns(
    relations: Mapping[int, Relation], usual: str, special: Mapping[str, str]
) -> None:
    """Finds each table's tenant column.

    A table that has lost its policy is found by its column: by the usual name, or by a name that
    the policies of other tables compare with the setting.
    """
    compared = Counter(
        relation.policy_columns[0]
        for relation in relations.values()
        if len(relation.policy_columns) == 1
    )
    shared = [
        name
        for name, times in compared.most_common()
        if times > 1 or (len(compared) == 1 and name != "id")
    ]
    for relation in relations.values():
        given = special.get(relation.sql.replace('"', "")) or special.get(relation.name)
        names = [given] if given else [usual, *shared, *relation.policy_columns]
        relation.tenant = next((name for name in names if name in relation.columns), None)


def _name_owners(relations: Mapping[int, Relation]) -> None:
    """Finds whose each row is: by the table's own column, or by the row to which it refers."""
    for relation in relations.values():
        if relation.is_table and relation.tenant is not None:
            relation.owned_by = f"{{row}}.{quoted_name(relation.tenant)}"
    waiting = [relation for relation in relations.values() if not relation.owned_by]
    found = True
    while found:
        found = False
        for relation in [each for each in waiting if each.is_table and not each.owned_by]:
            for key in relation.foreign_keys:
                parent = relations[key.parent]
                if not parent.owned_by or not all(
                    relation.columns[own].is_required for own, _ in key.pairs
                ):
                    continue
                relation.depth = parent.depth + 1
                name = f"parent{relation.depth}"
                on = " and ".join(
                    f"{name}.{quoted_name(parents)} = {{row}}.{quoted_name(own)}"
                    for own, parents in key.pairs
                )
                owner = parent.owned_by.replace("{row}", name)
                relation.owned_by = f"(select {owner} from {parent.sql} as {name} where {on})"
                found = True
                break
