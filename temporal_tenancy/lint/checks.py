"""What the catalogue lint looks for, each check as a query that returns what is wrong.

A query returns rows of (object, detail). It is preceded by `COMMON`, whose tables are what is ours
in the catalogue, and may use these parameters: `tenant`, `platform` and `runtime` (role names),
`control_plane` and `versions` (table names), `allowed` (names that are exempt), `opened` (policies
beside those of protect(), as "table policy role"), `rule` (what a policy says), `granted` (what the
tenant role may do with the library's tables, as "table PRIVILEGE column"), `checks` and `triggers`
(of the library's tables, as "table name").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, LiteralString

COMMON: Final = """
    with recursive runtime as (
        select oid, rolname, rolsuper, rolbypassrls, rolreplication, rolcreaterole, rolcreatedb
        from pg_roles
        where rolname = any(%(runtime)s)
    ),
    schemas as (
        select oid, nspname, nspowner, nspacl
        from pg_namespace
        where nspname !~ '^pg_' and nspname <> 'information_schema'
    ),
    relations as (
        select
            class.oid, class.relname, class.oid::regclass::text as name, class.relkind,
            class.relowner, class.relacl, class.reloptions,
            class.relrowsecurity, class.relforcerowsecurity,
            exists (select from pg_inherits where inhrelid = class.oid) as is_child
        from pg_class as class
        join schemas on schemas.oid = class.relnamespace
        where class.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
    ),
    tenant_owned as (
        select relations.*, attribute.attnum as tenant_column, attribute.attnotnull
        from relations
        join pg_attribute as attribute
            on attribute.attrelid = relations.oid
            and attribute.attname = 'tenant_id'
            and not attribute.attisdropped
        where relations.relkind in ('r', 'p') and relations.relname <> all(%(control_plane)s)
    ),
    policies as (
        select
            tenant_owned.name as table_name, policy.polname, policy.polcmd, policy.polpermissive,
            policy.polroles,
            pg_get_expr(policy.polqual, policy.polrelid) as using_rule,
            pg_get_expr(policy.polwithcheck, policy.polrelid) as check_rule
        from pg_policy as policy
        join tenant_owned on tenant_owned.oid = policy.polrelid
    ),
    acls as (
        select 'database' as kind, datname::text as name, grantee, privilege_type
        from pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba)))
        where datname = current_database()
        union all
        select 'schema', nspname::text, grantee, privilege_type
        from schemas, aclexplode(coalesce(nspacl, acldefault('n', nspowner)))
        union all
        select 'relation', name, grantee, privilege_type
        from relations, aclexplode(relacl)
        union all
        select 'relation', relations.name, grantee, privilege_type
        from pg_attribute as attribute
        join relations on relations.oid = attribute.attrelid, aclexplode(attribute.attacl)
    )
"""


@dataclass(frozen=True)
class Check:
    """One thing that must not be in the catalogue."""

    id: str
    message: str  # a sentence, with {object} and {detail}
    query: LiteralString
    tables: LiteralString = ""  # of its own, beside those of COMMON


ROLE_CHECKS: Final = (
    Check(
        "role-attribute",
        "the role {object} is {detail}: it may do more than its part. Alter the role.",
        """
        select rolname, attribute
        from runtime, lateral (values
            (rolsuper, 'a superuser'),
            (rolbypassrls, 'BYPASSRLS, so that no policy holds it'),
            (rolreplication, 'REPLICATION, which sends the rows of all tenants'),
            (rolcreaterole, 'CREATEROLE'),
            (rolcreatedb, 'CREATEDB')
        ) as attributes (is_set, attribute)
        where is_set
        """,
    ),
    Check(
        "role-membership",
        "the role {object} is a member of {detail}, and SET ROLE gives it that role's rights. "
        "Revoke the membership.",
        """
        select runtime.rolname, other.rolname
        from runtime
        join pg_roles as other on other.oid <> runtime.oid
        where not runtime.rolsuper and pg_has_role(runtime.oid, other.oid, 'MEMBER')
        """,
    ),
    Check(
        "role-owns",
        "the role {detail} owns {object}, and may change or drop its policies. Give it to the "
        "owner role.",
        """
        select name, rolname from relations join runtime on runtime.oid = relowner
        union all
        select 'schema ' || nspname, rolname from schemas join runtime on runtime.oid = nspowner
        union all
        select 'database ' || datname, rolname
        from pg_database join runtime on runtime.oid = datdba
        where datname = current_database()
        union all
        select 'function ' || proc.oid::regprocedure, rolname
        from pg_proc as proc
        join schemas on schemas.oid = proc.pronamespace
        join runtime on runtime.oid = proc.proowner
        union all
        -- Whatever else can only be made by who may create in a schema or in the database.
        select pg_describe_object(classid, objid, 0), rolname
        from pg_shdepend
        join runtime on refclassid = 'pg_authid'::regclass and refobjid = runtime.oid
        where deptype = 'o'
            and dbid = (select oid from pg_database where datname = current_database())
            and classid not in (
                'pg_class'::regclass, 'pg_namespace'::regclass, 'pg_proc'::regclass,
                'pg_largeobject'::regclass, 'pg_default_acl'::regclass,
                'pg_user_mapping'::regclass
            )
            and coalesce((pg_identify_object(classid, objid, 0)).schema, '') !~ '^pg_temp'
        """,
    ),
    Check(
        "role-creates",
        "the role {detail} may create objects in {object}. Revoke CREATE.",
        """
        select 'schema ' || nspname, rolname
        from schemas, runtime
        where not rolsuper and has_schema_privilege(runtime.oid, schemas.oid, 'CREATE')
        union all
        select 'database ' || current_database(), rolname
        from runtime
        where not rolsuper and has_database_privilege(runtime.oid, current_database(), 'CREATE')
        """,
    ),
)

TABLE_CHECKS: Final = (
    Check(
        "row-security-off",
        "the table {object} has a tenant_id and no row-level security. Call protect() on it.",
        "select name, '' from tenant_owned where not relrowsecurity and not is_child",
    ),
    Check(
        "row-security-not-forced",
        "row-level security of {object} does not hold its owner. FORCE it.",
        """
        select name, '' from tenant_owned
        where relrowsecurity and not relforcerowsecurity and not is_child
        """,
    ),
    Check(
        "policy-missing",
        "the table {object} lacks the policy {detail}. Call protect() on it.",
        """
        select name, wanted
        from tenant_owned, unnest(%(policies)s::text[]) as wanted
        where not is_child and not exists (
            select from policies where table_name = name and polname = wanted
        )
        """,
    ),
    Check(
        "policy-altered",
        "the policy {detail} of {object} is not as protect() makes it: for all commands, to the "
        "tenant role alone, with the tenant's rule for what is read and what is written.",
        """
        select table_name, polname
        from policies
        where polname = any(%(policies)s) and not (
            polcmd = '*'
            and polpermissive = (polname = (%(policies)s::text[])[2])
            and polroles = array(select oid from pg_roles where rolname = %(tenant)s)
            and coalesce(using_rule, '') = any(%(rule)s)
            and coalesce(check_rule, '') = any(%(rule)s)
        )
        """,
    ),
    Check(
        "policy-extra",
        "the policy {detail} of {object} widens what a runtime role sees. Drop it.",
        """
        select table_name, polname
        from policies
        where polname <> all(%(policies)s)
            and (polroles && array(select oid from runtime) or 0 = any(polroles))
            and array(
                select table_name || ' ' || polname || ' ' || case
                    when role = 0 then 'public' else pg_get_userbyid(role)::text
                end
                from unnest(polroles) as role
            ) <> all(select array[one] from unnest(%(opened)s::text[]) as one)
        """,
    ),
    Check(
        "tenant-id-nullable",
        "tenant_id of {object} may be null. Make it NOT NULL.",
        "select name, '' from tenant_owned where not attnotnull",
    ),
    Check(
        "tenant-id-collation",
        "tenant_id of {object} is compared by {detail}, to which different tenants may be equal. "
        "Give it a deterministic collation.",
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
        "the primary key of {object} does not begin with tenant_id.",
        """
        select name, ''
        from tenant_owned
        where not exists (
            select from pg_index
            where indrelid = tenant_owned.oid and indisprimary and indkey[0] = tenant_column
        )
        """,
    ),
    Check(
        "unique-without-tenant",
        "the unique index {detail} of {object} leaves out tenant_id: one tenant's row keeps "
        "another's out, and says that it is there.",
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
        "the index {detail} of {object} does not begin with tenant_id, so a tenant's query walks "
        "through the others' rows.",
        """
        select name, indexrelid::regclass::text
        from tenant_owned
        join pg_index on indrelid = tenant_owned.oid
        where not indisprimary and indkey[0] <> tenant_column
            and indexrelid::regclass::text <> all(%(allowed)s)
        """,
    ),
    Check(
        "foreign-key",
        "the foreign key {detail} of {object} does not pair tenant_id with tenant_id: it tells "
        "whether another tenant's row exists.",
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
        "the trigger {detail} of {object} is not the migrations': it runs when rows are written, "
        "and could give them another tenant_id, or copy them. Drop it.",
        """
        select name, tgname
        from pg_trigger
        join tenant_owned on tenant_owned.oid = tgrelid
        where not tgisinternal
            and tgname <> all(%(allowed)s)
            and relname || ' ' || tgname <> all(%(triggers)s)
        """,
    ),
    Check(
        "foreign-key-off",
        "the foreign key {detail} of {object} is not asked. ALTER TABLE {object} ENABLE TRIGGER "
        "ALL.",
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
        "the table {object} lacks the check {detail}, or holds rows that it was never asked of: "
        "code that works for all tenants may fail at what one has written. Run the migrations.",
        """
        select name, split_part(wanted, ' ', 2)
        from relations
        join unnest(%(checks)s::text[]) as wanted on split_part(wanted, ' ', 1) = relname
        where not exists (
            select from pg_constraint
            where conrelid = relations.oid and conname = split_part(wanted, ' ', 2)
                and contype = 'c' and convalidated
        )
        """,
    ),
    Check(
        "trigger-missing",
        "the table {object} lacks the trigger {detail}, or it does not fire: the tenant role may "
        "write there what is the platform's. Run the migrations.",
        """
        select name, split_part(wanted, ' ', 2)
        from relations
        join unnest(%(triggers)s::text[]) as wanted on split_part(wanted, ' ', 1) = relname
        where not exists (
            select from pg_trigger
            where tgrelid = relations.oid and tgname = split_part(wanted, ' ', 2)
                and tgenabled in ('O', 'A')
        )
        """,
    ),
    Check(
        "rule",
        "the rule {detail} rewrites statements on {object}, and acts with its owner's rights. Drop "
        "it.",
        """
        select name, rulename
        from pg_rewrite
        join relations on relations.oid = ev_class
        where rulename <> '_RETURN' or relkind not in ('v', 'm')
        """,
    ),
)

GRANT_CHECKS: Final = (
    Check(
        "grant-beyond-rows",
        "a runtime role has {detail} on {object}, which no policy governs. Revoke it.",
        """
        select distinct acls.name, runtime.rolname || ': ' || privilege_type
        from acls
        join runtime on acls.grantee in (runtime.oid, 0)
        where kind = 'relation'
            and privilege_type in ('TRUNCATE', 'REFERENCES', 'TRIGGER', 'MAINTAIN')
        """,
    ),
    Check(
        "child-granted",
        "a runtime role has {detail} on {object}: asked directly, a partition is not held by its "
        "parent's policies. Revoke it.",
        """
        select distinct relations.name, runtime.rolname || ': ' || privilege_type
        from relations
        join acls on acls.kind = 'relation' and acls.name = relations.name
        join runtime on acls.grantee in (runtime.oid, 0)
        where relations.is_child
        """,
    ),
    Check(
        "tenant-role-beyond-its-tables",
        "the tenant role has {detail} on {object}, whose rows are not one tenant's. Revoke it.",
        """
        select distinct relations.name, privilege_type
        from relations
        join acls on acls.kind = 'relation' and acls.name = relations.name
        join runtime on acls.grantee in (runtime.oid, 0) and runtime.rolname = %(tenant)s
        where relations.relkind in ('r', 'p', 'f')
            and relations.oid not in (select oid from tenant_owned)
            and not (relations.relname = any(%(versions)s) and privilege_type = 'SELECT')
        """,
    ),
    Check(
        "tenant-role-writes-the-platforms",
        "the tenant role has {detail} on {object}, whose rows the platform's code reads. Revoke "
        "it, and grant the columns that the migrations grant.",
        """
        select distinct held.name, held.privilege
        from (
            select oid, relname, name, grantee, privilege_type as privilege
            from relations, aclexplode(relacl)
            union all
            select relations.oid, relname, name, grantee, privilege_type || ' ' || attname
            from relations
            join pg_attribute on attrelid = relations.oid, aclexplode(attacl)
        ) as held
        join runtime on held.grantee in (runtime.oid, 0) and runtime.rolname = %(tenant)s
        where held.relname in (
                select split_part(one, ' ', 1) from unnest(%(granted)s::text[]) as one
            )
            and held.relname || ' ' || held.privilege <> all(%(granted)s)
        """,
    ),
    Check(
        "platform-role-on-tenants-rows",
        "the platform role has {detail} on {object}, which is the tenants'. Revoke it.",
        """
        select distinct tenant_owned.name, privilege_type
        from tenant_owned
        join acls on acls.kind = 'relation' and acls.name = tenant_owned.name
        join runtime on acls.grantee in (runtime.oid, 0) and runtime.rolname = %(platform)s
        where tenant_owned.name || ' platform_access ' || runtime.rolname <> all(%(opened)s)
        """,
    ),
    Check(
        "view",
        "a runtime role has {detail} on the view {object}, which reads as its own owner. Set "
        "security_invoker.",
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
        "a runtime role has {detail} on the materialized view {object}, which has no policies. "
        "Revoke it.",
        """
        select distinct relations.name, runtime.rolname || ': ' || privilege_type
        from relations
        join acls on acls.kind = 'relation' and acls.name = relations.name
        join runtime on acls.grantee in (runtime.oid, 0)
        where relkind = 'm'
        """,
    ),
    Check(
        "sequence",
        "a runtime role has {detail} on the sequence {object}, which tells how many rows all "
        "tenants have. Use UUIDs.",
        """
        select distinct relations.name, runtime.rolname || ': ' || privilege_type
        from relations
        join acls on acls.kind = 'relation' and acls.name = relations.name
        join runtime on acls.grantee in (runtime.oid, 0)
        where relkind = 'S'
        """,
    ),
    Check(
        "security-definer",
        "the function {object} runs with its owner's rights{detail}. Make it SECURITY INVOKER, or "
        "revoke EXECUTE.",
        """
        select distinct
            proc.oid::regprocedure::text,
            case when proc.proname = any(%(allowed)s) then ' and sets no search_path' else '' end
        from pg_proc as proc
        -- An aggregate calls its functions with the rights of its own owner.
        left join pg_aggregate on aggfnoid = proc.oid
        join pg_proc as called
            on called.prosecdef
            and called.oid in (proc.oid, aggtransfn, aggfinalfn, aggcombinefn, aggmtransfn,
                aggminvtransfn, aggmfinalfn, aggserialfn, aggdeserialfn)
        join runtime on has_function_privilege(runtime.oid, proc.oid, 'EXECUTE')
        where not (
            proc.proname = any(%(allowed)s)
            and exists (
                select from unnest(called.proconfig) as setting
                where setting like 'search_path=%%'
            )
        )
        """,
    ),
    Check(
        "public-grant",
        "everybody has {detail} on {object}. Revoke it from PUBLIC.",
        """
        select kind || ' ' || name, privilege_type from acls where grantee = 0
        """,
    ),
    Check(
        "default-privileges",
        "objects that {object} makes will be open to {detail}. Alter its default privileges.",
        """
        select distinct
            defaclrole::regrole::text,
            case when grantee = 0 then 'PUBLIC' else grantee::regrole::text end
        from pg_default_acl, aclexplode(defaclacl)
        where grantee = 0 or grantee in (select oid from runtime)
        """,
    ),
)

SERVER_CHECKS: Final = (
    Check(
        "server-version",
        "PostgreSQL {object} {detail}. Upgrade it.",
        # The minor releases that mend CVE-2025-8713: statistics of rows that a policy hides.
        """
        select
            current_setting('server_version'),
            case
                when version < 150000 then 'is too old for views that keep to row-level security'
                else 'shows statistics of rows that a policy hides (CVE-2025-8713)'
            end
        from (select current_setting('server_version_num')::int as version) as server
        where version < 150014
            or version between 160000 and 160009
            or version between 170000 and 170005
        """,
    ),
    Check(
        "role-missing",
        "there is no role {object}. Run the migrations.",
        """
        select wanted, ''
        from unnest(array[%(tenant)s, %(platform)s]::text[]) as wanted
        where wanted not in (select rolname from pg_roles)
        """,
    ),
)
