"""The checks of the catalogue lint, each a query that returns the faults it finds.

A query returns rows of (object, detail) or (object, detail, more). `COMMON` goes before it, with
tables of this system's part of the catalogue; `library_name` in them is the name of a table of the
library, and null for every other table, whatever its name. It may use these parameters: `tenant`,
`platform` and `runtime` (role names), `schema` (of the library's tables), `control_plane`,
`library_versions` and `versions` (table names; `versions` are the application's and those of its
migration tools), `allowed` (names of exempt objects), `spanning`
(the library's indexes for queries over all tenants), `opened` (policies in addition to those of
protect(), as "table policy role"), `policies` (names of the policies of protect()), `columns`
(names of columns that hold a tenant's id), `owned` (tables whose classes name the column, as "table
column"), `rule_types`, `rule_ids`, `rule_releases`, `rules` and `rule_checks` (for each type of
column the type of the ids, "this" or "earlier", and the expressions of the policies of that
release, in each form that PostgreSQL prints, with {column}), `declared` (the type of the process's
ids, or null), `granted` (rights of the tenant role on the library's tables, as "table PRIVILEGE
column"), `checks` and `triggers` (of the library's tables, as "table name"), `store_roles` (of the
schemas of stores, each with its schema's name), `stores_group` (whose rights they share) and
`stores` (how the comments on them begin). `runtime` has the roles of stores and the group too.
"""

from __future__ import annotations

from typing import Final, LiteralString

from temporal_tenancy.postgres.role_checks import ROLE_TABLES, Check

_LINT_TABLES: Final = """
    -- Each type with the types below it, of which one is no domain.
    , bases as (
        select oid, typname::text as name, typbasetype as below from pg_type
        union all
        select bases.oid, pg_type.typname::text, pg_type.typbasetype
        from bases
        join pg_type on pg_type.oid = bases.below
    )
    -- The columns that the policies of protect() read.
    , named as (
        select distinct attrelid, attnum, attname
        from pg_policy
        join pg_depend
            on classid = 'pg_policy'::regclass and objid = pg_policy.oid
            and refclassid = 'pg_class'::regclass and refobjid = polrelid
        join pg_attribute on attrelid = polrelid and attnum = refobjsubid and attnum > 0
        where polname = (%(policies)s::text[])[1]
    ),
    -- A table's class says which column holds the tenant's id, else the column's name, else the
    -- table's policy. A runtime role's table also has it where other tables' policies read a column
    -- of that name.
    tenant_owned as (
        select distinct on (relations.oid)
            relations.*, attribute.attnum as tenant_column,
            attribute.attname as column_name,
            quote_ident(attribute.attname) as tenant_column_name,
            attribute.attnotnull,
            base.name as tenant_column_type,
            format_type(attribute.atttypid, attribute.atttypmod) as tenant_column_shown
        from relations
        join pg_attribute as attribute
            on attribute.attrelid = relations.oid
            and attribute.attnum > 0
            and not attribute.attisdropped
        join bases as base on base.oid = attribute.atttypid and base.below = 0
        left join named
            on named.attrelid = relations.oid and named.attnum = attribute.attnum,
            lateral (
                select
                    relations.relname || ' ' || attribute.attname = any(%(owned)s) as of_class,
                    array_position(%(columns)s::text[], attribute.attname::text) as known,
                    named.attnum is not null as of_policy
            ) as reason
        where relations.relkind in ('r', 'p')
            and coalesce(relations.library_name, '') <> all(%(control_plane)s)
            and relations.relname <> 'store_identity'
            and (
                of_class or known is not null or of_policy
                or attribute.attname in (select attname from named) and exists (
                    select from runtime
                    where has_any_column_privilege(
                            runtime.oid, relations.oid, 'SELECT, INSERT, UPDATE'
                        )
                        or has_table_privilege(runtime.oid, relations.oid, 'DELETE')
                )
            )
        order by relations.oid, of_class desc, known is null, of_policy desc, known,
            attribute.attnum
    ),
    policies as (
        select
            tenant_owned.name as table_name, tenant_owned.library_name, tenant_column_name,
            column_name,
            tenant_column_type, relname, schema_name, policy.polname, policy.polcmd,
            policy.polrelid, policy.polpermissive, policy.polroles,
            pg_get_expr(policy.polqual, policy.polrelid) as using_rule,
            pg_get_expr(policy.polwithcheck, policy.polrelid) as check_rule
        from pg_policy as policy
        join tenant_owned on tenant_owned.oid = policy.polrelid
    ),
    acls as (
        select
            entries.*,
            format(
                'REVOKE %%s ON %%s%%s FROM %%s', privilege_type,
                case kind when 'relation' then '' else upper(kind) || ' ' end, name,
                case when grantee = 0 then 'PUBLIC' else grantee::regrole::text end
            ) as revoke
        from (
            select
                'database' as kind, quote_ident(datname) as name, datdba as owner, grantee,
                privilege_type
            from pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba)))
            where datname = current_database()
            union all
            select 'schema', quote_ident(nspname), nspowner, grantee, privilege_type
            from schemas, aclexplode(coalesce(nspacl, acldefault('n', nspowner)))
            union all
            select 'relation', name, relowner, grantee, privilege_type
            from relations, aclexplode(relacl)
            union all
            select 'relation', relations.name, relowner, grantee, privilege_type
            from pg_attribute as attribute
            join relations on relations.oid = attribute.attrelid, aclexplode(attribute.attacl)
        ) as entries
    )
"""
COMMON: Final[LiteralString] = ROLE_TABLES + _LINT_TABLES

# The policies with what they are of: the rule of protect(), that of an earlier release, or neither.
_JUDGED: Final[LiteralString] = """
    , judged as (
        select
            policies.*, form.rule, form.id_type,
            polcmd = '*'
                and polpermissive = (polname = (%(policies)s::text[])[2])
                and (
                    -- In the schema of a store, the store's role is the tenant's.
                    polroles = array(
                        select oid from pg_roles
                        where rolname = case
                            when schema_name = any(%(store_roles)s) then schema_name
                            else %(tenant)s
                        end
                    )
                    or library_name is not null
                        and polroles @> array(select oid from pg_roles where rolname = %(tenant)s)
                        and polroles <@ array(
                            select oid from pg_roles
                            where rolname in (%(tenant)s, %(stores_group)s)
                        )
                )
                as is_limited
        from policies
        left join lateral (
            select release as rule, known.id_type
            from unnest(
                %(rule_types)s::text[], %(rule_ids)s::text[], %(rule_releases)s::text[],
                %(rules)s::text[], %(rule_checks)s::text[]
            ) as known (type, id_type, release, rule, write_rule)
            where known.type = tenant_column_type
                and using_rule = replace(known.rule, '{column}', tenant_column_name)
                and check_rule = replace(known.write_rule, '{column}', tenant_column_name)
            limit 1
        ) as form on true
    )
"""

TABLE_CHECKS: Final = (
    Check(
        "row-security-off",
        "the table {object} has a tenant's column, {detail}, but no row-level security, so any "
        "session may see the rows of all tenants. In a migration, call protect() on it, or run "
        "protect_sql().",
        """
        select name, tenant_column_name from tenant_owned
        where not relrowsecurity and not is_child
        """,
    ),
    Check(
        "row-security-not-forced",
        "row-level security on {object} does not apply to its owner, who sees the rows of all "
        "tenants. Run ALTER TABLE {object} FORCE ROW LEVEL SECURITY.",
        """
        select name, '' from tenant_owned
        where relrowsecurity and not relforcerowsecurity and not is_child
        """,
    ),
    Check(
        "policy-missing",
        "the table {object} lacks the policy {detail}, one of the two that limit the tenant role "
        "to its tenant's rows. In a migration, call protect() on it, or run protect_sql().",
        """
        select name, wanted
        from tenant_owned, unnest(%(policies)s::text[]) as wanted
        where not is_child and relrowsecurity and not exists (
            select from policies where table_name = name and polname = wanted
        )
        """,
    ),
    Check(
        "policy-altered",
        "the policy {detail} on {object} differs from what protect() creates for its tenant's "
        "column, so it may show or accept other tenants' rows. In a migration, call protect() on "
        "the table again.",
        """
        select table_name, polname
        from judged
        where polname = any(%(policies)s) and tenant_column_type = any(%(rule_types)s)
            and (not is_limited or rule is null)
        """,
        _JUDGED,
    ),
    Check(
        "policy-spelling",
        "the policy {detail} on {object} is of an earlier release: it takes a second spelling of a "
        "tenant's id, so that 07 has the rows of 7. In a migration, call {more} again, or run "
        "protect_sql() with these arguments.",
        """
        select
            table_name, polname,
            format(
                'protect(%%L, column=%%L, type=%%L%%s)', relname, column_name, id_type,
                case when schema_name <> 'public' then format(', schema=%%L', schema_name) end
            )
        from judged
        where polname = any(%(policies)s) and is_limited and rule = 'earlier'
        """,
        _JUDGED,
    ),
    Check(
        "tenant-id-type",
        "the tenant's column of {object} has the type {detail}, {more}. In a migration, drop its "
        "policies, make it text, uuid or bigint, and call protect().",
        """
        select
            name, tenant_column_shown,
            case tenant_column_type
                when 'citext' then 'by which ids that differ only by case are one key'
                when 'bpchar' then 'which pads each id with blanks'
                else 'which cannot hold tenant ids'
            end
        from tenant_owned
        where tenant_column_type <> all(%(rule_types)s)
        """,
    ),
    Check(
        "tenant-id-undeclared",
        "the tenant's column of {object} has the type {detail}, but the application's ids are "
        "{more}.",
        """
        select
            table_name, id_type,
            case
                when %(declared)s = 'text' then format(
                    'any text, so that a second spelling of an id is another tenant, without '
                    'rows. Call declare_tenant_ids(%%L) wherever its processes begin', id_type
                )
                else format(
                    '%%s, and no id is both. Make the column %%s or text', %(declared)s::text,
                    %(declared)s::text
                )
            end
        from judged
        where polname = (%(policies)s::text[])[1] and id_type not in ('text', %(declared)s)
        """,
        _JUDGED,
    ),
    Check(
        "policy-extra",
        "the policy {detail} on {object} {more}. Run DROP POLICY {detail} ON {object}.",
        """
        select
            table_name, quote_ident(polname),
            case
                when not polpermissive then 'hides rows from a runtime role'
                -- tenant_isolation is for the tenant role alone.
                when exists (
                    select from runtime
                    where rolname <> %(tenant)s and rolname <> %(stores_group)s
                        and rolname <> all(%(store_roles)s)
                        and (runtime.oid = any(polroles) or 0 = any(polroles))
                        and (
                            has_any_column_privilege(
                                runtime.oid, policies.polrelid, 'SELECT, INSERT, UPDATE'
                            )
                            or has_table_privilege(runtime.oid, policies.polrelid, 'DELETE')
                        )
                ) or not exists (
                    select from judged as isolation
                    where isolation.polrelid = policies.polrelid and is_limited
                        and isolation.polname = (%(policies)s::text[])[1] and rule is not null
                ) then 'lets a runtime role see more rows'
                else format(
                    'changes nothing while the policy %%s stands, and opens the table to every '
                    'tenant when that one goes', (%(policies)s::text[])[1]
                )
            end
        from policies
        where polname <> all(%(policies)s)
            and (polroles && array(select oid from runtime) or 0 = any(polroles))
            and array(
                select coalesce(library_name, '') || ' ' || polname || ' ' || case
                    when role = 0 then 'public' else pg_get_userbyid(role)::text
                end
                from unnest(polroles) as role
            ) <> all(select array[entry] from unnest(%(opened)s::text[]) as entry)
        """,
        _JUDGED,
    ),
    Check(
        "tenant-id-nullable",
        "{detail} of {object} may be null, and a row without a tenant is visible to none. "
        "Run ALTER TABLE {object} ALTER COLUMN {detail} SET NOT NULL.",
        "select name, tenant_column_name from tenant_owned where not attnotnull",
    ),
    Check(
        "tenant-id-collation",
        "the tenant's column of {object} has the collation {detail}, by which different tenants "
        'may be equal. In a migration, give it a deterministic collation, such as "C".',
        """
        select name, collname
        from tenant_owned
        join pg_attribute on attrelid = tenant_owned.oid and attnum = tenant_column
        join pg_collation on pg_collation.oid = attcollation
        where not collisdeterministic
        """,
    ),
    Check(
        "primary-key",
        "{object} has no primary key that begins with {detail}, so a tenant's query walks through "
        "other tenants' rows. Create one in a migration.",
        """
        select name, tenant_column_name
        from tenant_owned
        where not exists (
            select from pg_index
            where indrelid = tenant_owned.oid and indisprimary and indkey[0] = tenant_column
        )
        """,
    ),
    Check(
        "unique-without-tenant",
        "the unique index {detail} on {object} does not include the tenant's column, so one "
        "tenant's row blocks another's, and reveals that it exists. In a migration, add it.",
        """
        select name, indexrelid::regclass::text
        from tenant_owned
        join pg_index on indrelid = tenant_owned.oid
        where (indisunique or indisexclusion) and not exists (
            select from generate_series(0, indnkeyatts - 1) as position
            where indkey[position] = tenant_column
        )
        """,
    ),
    Check(
        "index-order",
        "the index {detail} on {object} does not begin with the tenant's column, so a tenant's "
        "query walks through other tenants' rows. In a migration, put that column first.",
        """
        select name, indexrelid::regclass::text
        from tenant_owned
        join pg_index on indrelid = tenant_owned.oid
        join pg_class as index on index.oid = indexrelid
        where not indisprimary and indkey[0] <> tenant_column
            and indexrelid::regclass::text <> all(%(allowed)s)
            and not (library_name is not null and index.relname = any(%(spanning)s))
        """,
    ),
    Check(
        "foreign-key",
        "the foreign key {detail} on {object} does not pair the tenants' columns of both tables, "
        "so it reveals whether another tenant's row exists. In a migration, add them to it.",
        """
        select child.name, conname
        from pg_constraint
        join tenant_owned as child on child.oid = conrelid
        join tenant_owned as parent on parent.oid = confrelid
        where contype = 'f' and not exists (
            select from unnest(conkey, confkey) as pair (child_column, parent_column)
            where child_column = child.tenant_column and parent_column = parent.tenant_column
        )
        """,
    ),
    Check(
        "trigger",
        "the trigger {detail} on {object} is not from the migrations. It runs on writes, and could "
        "copy rows or change their tenant. Run DROP TRIGGER {detail} ON {object}.",
        """
        select name, quote_ident(tgname)
        from pg_trigger
        join tenant_owned on tenant_owned.oid = tgrelid
        where not tgisinternal
            and tgname <> all(%(allowed)s)
            and coalesce(library_name, '') || ' ' || tgname <> all(%(triggers)s)
        """,
    ),
    Check(
        "foreign-key-off",
        "the foreign key {detail} on {object} is not enforced, because its triggers are disabled. "
        "Run ALTER TABLE {object} ENABLE TRIGGER ALL.",
        """
        select distinct name, conname
        from pg_trigger
        join tenant_owned on tenant_owned.oid = tgrelid
        join pg_constraint on pg_constraint.oid = tgconstraint and contype = 'f'
        where tgisinternal and tgenabled not in ('O', 'A')
        """,
    ),
    Check(
        "check-missing",
        "the table {object} lacks the check constraint {detail}, or it is not validated, so one "
        "tenant's rows can break code that works for all tenants. Run the migrations.",
        """
        select name, split_part(wanted, ' ', 2)
        from relations
        join unnest(%(checks)s::text[]) as wanted on split_part(wanted, ' ', 1) = library_name
        where not exists (
            select from pg_constraint
            where conrelid = relations.oid and conname = split_part(wanted, ' ', 2)
                and contype = 'c' and convalidated
        )
        """,
    ),
    Check(
        "trigger-missing",
        "the table {object} lacks the trigger {detail}, or it is disabled, so the tenant role may "
        "write values that only the platform should. Run the migrations.",
        """
        select name, split_part(wanted, ' ', 2)
        from relations
        join unnest(%(triggers)s::text[]) as wanted on split_part(wanted, ' ', 1) = library_name
        where not exists (
            select from pg_trigger
            where tgrelid = relations.oid and tgname = split_part(wanted, ' ', 2)
                and tgenabled in ('O', 'A')
        )
        """,
    ),
    Check(
        "rule",
        "the rule {detail} rewrites statements on {object}, and runs with the owner's rights. "
        "Run DROP RULE {detail} ON {object}.",
        """
        select name, quote_ident(rulename)
        from pg_rewrite
        join relations on relations.oid = ev_class
        where rulename <> '_RETURN' or relkind not in ('v', 'm')
        """,
    ),
)

# The tenant role's rights on tables whose rows do not each belong to one tenant.
_SHARED: Final[LiteralString] = """
    , shared as (
        select relations.name, relname, library_name, privilege_type, revoke
        from relations
        join acls on acls.kind = 'relation' and acls.name = relations.name
        join runtime on acls.grantee in (runtime.oid, 0) and runtime.rolname = %(tenant)s
        where relations.relkind in ('r', 'p', 'f')
            and relations.oid not in (select oid from tenant_owned)
    )
"""

GRANT_CHECKS: Final = (
    Check(
        "grant-beyond-rows",
        "a runtime role has a right on {object} that no policy limits. Run {detail}.",
        """
        select distinct acls.name, acls.revoke
        from acls
        join runtime on acls.grantee in (runtime.oid, 0)
        where kind = 'relation'
            and privilege_type in ('TRUNCATE', 'REFERENCES', 'TRIGGER', 'MAINTAIN')
        """,
    ),
    Check(
        "child-granted",
        "a runtime role has a right on the partition {object}, and the parent's policies do not "
        "apply to queries on a partition itself. Run {detail}.",
        """
        select distinct relations.name, acls.revoke
        from relations
        join acls on acls.kind = 'relation' and acls.name = relations.name
        join runtime on acls.grantee in (runtime.oid, 0)
        where relations.is_child
        """,
    ),
    Check(
        "tenant-role-beyond-its-tables",
        "the tenant role has a right on {object}, whose rows do not each belong to one tenant. "
        "Run {detail}.",
        """
        select distinct name, revoke
        from shared
        where (library_name is not null or relname = any(%(versions)s))
            and not (
                privilege_type = 'SELECT' and (
                    coalesce(library_name, '') = any(%(library_versions)s)
                    or relname = any(%(versions)s)
                )
            )
        """,
        _SHARED,
    ),
    Check(
        "shared-table",
        "the tenant role has a right on {object}, which has no column with a tenant's id: every "
        "tenant has it. If its rows are a tenant's, add the column and call protect(). Otherwise "
        "run {detail}.",
        """
        select name, string_agg(distinct revoke, '; ' order by revoke)
        from shared
        where library_name is null and relname <> all(%(versions)s)
        group by name
        """,
        _SHARED,
        open=True,
    ),
    Check(
        "tenant-role-writes-the-platforms",
        "the tenant role has {detail} on {object}, whose rows the platform's code relies on. "
        "Revoke it, and grant only the columns that the migrations grant.",
        """
        select distinct grants.name, grants.privilege
        from (
            select oid, library_name, name, grantee, privilege_type as privilege
            from relations, aclexplode(relacl)
            union all
            select relations.oid, library_name, name, grantee, privilege_type || ' ' || attname
            from relations
            join pg_attribute on attrelid = relations.oid, aclexplode(attacl)
        ) as grants
        join runtime on grants.grantee in (runtime.oid, 0) and runtime.rolname = %(tenant)s
        where grants.library_name in (
                select split_part(entry, ' ', 1) from unnest(%(granted)s::text[]) as entry
            )
            and grants.library_name || ' ' || grants.privilege <> all(%(granted)s)
        """,
    ),
    Check(
        "platform-role-on-tenants-rows",
        "the platform role has a right on {object}, whose rows belong to tenants. Run {detail}.",
        """
        select distinct tenant_owned.name, acls.revoke
        from tenant_owned
        join acls on acls.kind = 'relation' and acls.name = tenant_owned.name
        join runtime on acls.grantee in (runtime.oid, 0) and runtime.rolname = %(platform)s
        where coalesce(tenant_owned.library_name, '') || ' platform_access ' || runtime.rolname
            <> all(%(opened)s)
        """,
    ),
    Check(
        "view",
        "a runtime role has a right ({detail}) on the view {object}, which reads with its owner's "
        "rights. Run ALTER VIEW {object} SET (security_invoker = true).",
        """
        select distinct relations.name, runtime.rolname || ': ' || privilege_type
        from relations
        join acls on acls.kind = 'relation' and acls.name = relations.name
        join runtime on acls.grantee in (runtime.oid, 0)
        where relkind = 'v' and not coalesce(
            (
                select option_value::boolean
                from pg_options_to_table(reloptions)
                where option_name = 'security_invoker'
            ),
            false
        )
        """,
    ),
    Check(
        "materialized-view",
        "a runtime role has a right on the materialized view {object}, which cannot have policies. "
        "Run {detail}.",
        """
        select distinct relations.name, acls.revoke
        from relations
        join acls on acls.kind = 'relation' and acls.name = relations.name
        join runtime on acls.grantee in (runtime.oid, 0)
        where relkind = 'm'
        """,
    ),
    Check(
        "sequence",
        "a runtime role has a right on the sequence {object}, whose values reveal how many rows "
        "all tenants have. Use UUIDs instead, and run {detail}.",
        """
        select distinct relations.name, acls.revoke
        from relations
        join acls on acls.kind = 'relation' and acls.name = relations.name
        join runtime on acls.grantee in (runtime.oid, 0)
        where relkind = 'S'
        """,
    ),
    Check(
        "security-definer",
        "the function {object} runs with its owner's rights{detail}, so it may read other tenants' "
        "rows. Run ALTER ROUTINE {object} SECURITY INVOKER, or revoke EXECUTE on it.",
        """
        select distinct
            proc.oid::regprocedure::text,
            case when proc.proname = any(%(allowed)s) then ' and sets no search_path' else '' end
        from pg_proc as proc
        -- An aggregate calls its functions with the rights of the aggregate's owner.
        left join pg_aggregate on aggfnoid = proc.oid
        join pg_proc as code
            on code.prosecdef
            and code.oid in (proc.oid, aggtransfn, aggfinalfn, aggcombinefn, aggmtransfn,
                aggminvtransfn, aggmfinalfn, aggserialfn, aggdeserialfn)
        join runtime on has_function_privilege(runtime.oid, proc.oid, 'EXECUTE')
        where not (
            proc.proname = any(%(allowed)s)
            and exists (
                select from unnest(code.proconfig) as setting
                where setting like 'search_path=%%'
            )
        )
        """,
    ),
    Check(
        "public-grant",
        "every role of the server has {more}. Run {detail}.",
        """
        select distinct
            kind || ' ' || name, revoke,
            format('%%s on %%s %%s', privilege_type, kind, name) || case
                when losers = '{}' then ''
                else '. These would lose it, because they have it in no other way: '
                    || array_to_string(losers[:5], ', ')
                    || case when cardinality(losers) > 5
                        then format(' and %%s more roles', cardinality(losers) - 5) else '' end
            end
        from acls as given, lateral (
            select array(
                select quote_ident(rolname)
                from pg_roles
                where rolcanlogin and not rolsuper
                    and not pg_has_role(pg_roles.oid, given.owner, 'USAGE')
                    and not exists (
                        select from acls as other
                        where (other.kind, other.name, other.privilege_type)
                                = (given.kind, given.name, given.privilege_type)
                            and other.grantee <> 0
                            and pg_has_role(pg_roles.oid, other.grantee, 'USAGE')
                    )
                order by rolname
            ) as losers
        ) as lost
        where grantee = 0
        """,
        open=True,
    ),
    Check(
        "default-privileges",
        "{detail} will have rights on every object that {object} creates. Take them back with "
        "ALTER DEFAULT PRIVILEGES FOR ROLE {object} REVOKE ... FROM {detail}.",
        """
        select distinct
            defaclrole::regrole::text,
            case when grantee = 0 then 'PUBLIC' else grantee::regrole::text end
        from pg_default_acl, aclexplode(defaclacl)
        where grantee = 0 or grantee in (select oid from runtime)
        """,
        open=True,
    ),
)

STORE_CHECKS: Final = (
    Check(
        "store-role-login",
        "the role {object} of a store can log in, so it can be used without the checks of a "
        "session. Run ALTER ROLE {object} NOLOGIN.",
        """
        select quote_ident(rolname), ''
        from pg_roles
        where rolcanlogin
            and (rolname = any(%(store_roles)s) or cardinality(%(store_roles)s::text[]) > 0
                and rolname = %(stores_group)s)
        """,
    ),
    Check(
        "store-role-entered",
        "the role {object} is a member of {detail}, the role of a store, so it may see that "
        "tenant's rows. Run REVOKE {detail} FROM {object}.",
        # Who creates a role may administer it.
        """
        select quote_ident(member.rolname), quote_ident(role.rolname)
        from pg_auth_members
        join pg_roles as role on role.oid = roleid and role.rolname = any(%(store_roles)s)
        join pg_roles as member on member.oid = pg_auth_members.member
        where member.rolname <> %(tenant)s and not member.rolsuper and not admin_option
            and member.rolname <> all(%(store_roles)s)
        """,
    ),
    Check(
        "store-role-elsewhere",
        "the role of a store has a right on {object} that it must not have: its own are in its "
        "schema, where it only reads whose the store is. Run {detail}.",
        """
        select distinct acls.name, acls.revoke
        from acls
        join pg_roles as role on role.oid = acls.grantee and role.rolname = any(%(store_roles)s)
        left join relations on acls.kind = 'relation' and relations.name = acls.name
        where acls.kind = 'schema' and acls.name <> quote_ident(role.rolname)
            or acls.kind = 'relation' and (
                relations.schema_name <> role.rolname
                or relations.relname = 'store_identity' and acls.privilege_type <> 'SELECT'
            )
        """,
    ),
    Check(
        "store-open",
        "a role has a right on {object} in the schema of a store that is for the store's role "
        "alone, and keeps it without entering that role. Run {detail}.",
        """
        select distinct acls.name, acls.revoke
        from acls
        left join relations on acls.kind = 'relation' and relations.name = acls.name
        where (
                acls.kind = 'schema' and acls.name = any(
                    select quote_ident(store) from unnest(%(store_roles)s::text[]) as store
                )
                or relations.schema_name = any(%(store_roles)s)
            )
            and acls.grantee in (
                select 0 union
                select oid from pg_roles where rolname in (%(tenant)s, %(stores_group)s)
            )
        """,
    ),
)

SERVER_CHECKS: Final = (
    Check(
        "server-version",
        "PostgreSQL {object} {detail}. Upgrade it to 15.14, 16.10, 17.6 or later.",
        # The minor releases that fix CVE-2025-8713: statistics of rows that a policy hides.
        """
        select
            current_setting('server_version'),
            case
                when version < 150000 then 'is too old for views that apply row-level security'
                else 'exposes statistics of rows that a policy hides (CVE-2025-8713)'
            end
        from (select current_setting('server_version_num')::int as version) as server
        where version < 150014
            or version between 160000 and 160009
            or version between 170000 and 170005
        """,
    ),
    Check(
        "role-missing",
        "the role {object} does not exist, so policies and grants for it are missing too. Run the "
        "migrations.",
        """
        select wanted, ''
        from unnest(array[%(tenant)s, %(platform)s]::text[]) as wanted
        where wanted not in (select rolname from pg_roles)
        """,
    ),
)
