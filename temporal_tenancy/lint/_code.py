"""The checks of the catalogue lint on settings, code and data flows of the database.

They are written as in `lint._checks`, with more parameters: `settings` (that decide whose rows a
session sees), `limits` (time limits of the runtime roles), `extensions` (that run no SQL text and
read no files), `functions` (the library's, as "name body") and `harmless` (volatile functions of
PostgreSQL without side effects). Objects that initdb creates have an oid below 16384.
"""

from __future__ import annotations

from typing import Final, LiteralString

from temporal_tenancy.postgres.role_checks import Check

# `ours`: the library's functions, as its migrations create them. `computing`: objects that can only
# compute, from the known extensions and from range types.
_KNOWN: Final[LiteralString] = """
    , ours as (
        select oid
        from pg_proc
        where proname || ' ' || btrim(regexp_replace(prosrc, '\\s+', ' ', 'g'))
                = any(%(functions)s)
            and not prosecdef and proconfig is null
            and pronamespace = (select oid from schemas where nspname = %(schema)s)
    ),
    computing as (
        select classid, objid
        from pg_depend
        join pg_extension
            on refclassid = 'pg_extension'::regclass and refobjid = pg_extension.oid
        where deptype = 'e' and extname = any(%(extensions)s)
        union all
        -- The functions that a range type creates.
        select classid, objid
        from pg_depend
        where classid = 'pg_proc'::regclass and refclassid = 'pg_type'::regclass and deptype = 'i'
    )
"""

# `parts`: a table's defaults, constraints, triggers, policies, indexes and statistics. `needed`:
# each function that a part depends on, directly or through an operator, a type or a domain's check.
# PostgreSQL records no dependencies on its built-in objects.
_NEEDED: Final[LiteralString] = """
    , parts as (
        select oid as relation, 'pg_class'::regclass::oid as part_class, oid as part
        from relations
        where relkind in ('r', 'p', 'v', 'f')
        union
        select relations.oid, classid, objid
        from pg_depend
        join relations on refclassid = 'pg_class'::regclass and refobjid = relations.oid
        where classid in (
                'pg_attrdef'::regclass, 'pg_constraint'::regclass, 'pg_trigger'::regclass,
                'pg_policy'::regclass, 'pg_statistic_ext'::regclass
            )
            or classid = 'pg_class'::regclass and objid in (select indexrelid from pg_index)
    ),
    needed as (
        select relation, part_class, part, part_class as classid, part as objid from parts
        union
        select relation, part_class, part, further.classid, further.objid
        from needed, lateral (
            select refclassid, refobjid
            from pg_depend
            where classid = needed.classid and objid = needed.objid
                and refclassid in (
                    'pg_type'::regclass, 'pg_operator'::regclass, 'pg_proc'::regclass,
                    'pg_opclass'::regclass, 'pg_opfamily'::regclass
                )
            union all
            select 'pg_constraint'::regclass, oid
            from pg_constraint
            where needed.classid = 'pg_type'::regclass and contypid = needed.objid
            union all
            select 'pg_proc'::regclass, amproc
            from pg_amproc
            where needed.classid = 'pg_opfamily'::regclass and amprocfamily = needed.objid
                and amproc >= 16384
        ) as further (classid, objid)
    )
"""

_IN_CODE: Final[LiteralString] = """
    , expressions as (
        select
            name, 'the default of ' || quote_ident(attname) as part, adbin::text as tree,
            case attgenerated
                when '' then
                    format('ALTER TABLE %%s ALTER COLUMN %%I DROP DEFAULT', name, attname)
                else format('ALTER TABLE %%s DROP COLUMN %%I', name, attname)
            end as cure
        from pg_attrdef
        join relations on relations.oid = adrelid
        join pg_attribute on attrelid = adrelid and attnum = adnum
        union all
        select
            name, 'the check ' || quote_ident(conname), conbin::text,
            format('ALTER TABLE %%s DROP CONSTRAINT %%I', name, conname)
        from pg_constraint
        join relations on relations.oid = conrelid
        where contype = 'c'
        union all
        select
            contypid::regtype::text, 'the check ' || quote_ident(conname), conbin::text,
            format('ALTER DOMAIN %%s DROP CONSTRAINT %%I', contypid::regtype, conname)
        from pg_constraint
        where contypid <> 0 and connamespace in (select oid from schemas)
        union all
        select
            name, 'the condition of the trigger ' || quote_ident(tgname), tgqual::text,
            format('DROP TRIGGER %%I ON %%s', tgname, name)
        from pg_trigger
        join relations on relations.oid = tgrelid
        where not tgisinternal
        union all
        select
            name, 'the policy ' || quote_ident(polname), concat(polqual, polwithcheck),
            format('DROP POLICY %%I ON %%s', polname, name)
        from pg_policy
        join relations on relations.oid = polrelid
    )
"""

SETTING_CHECKS: Final = (
    Check(
        "role-setting",
        "sessions of {object} begin with a setting that decides whose rows they see, or that turns "
        "off a time limit. Run {detail}.",
        """
        select
            coalesce(rolname, 'everybody'),
            case
                when setrole = 0 and setdatabase = 0 then 'ALTER ROLE ALL'
                when setrole = 0 then format('ALTER DATABASE %%I', current_database())
                when setdatabase = 0 then format('ALTER ROLE %%I', rolname)
                else format('ALTER ROLE %%I IN DATABASE %%I', rolname, current_database())
            end || ' RESET ' || name
        from pg_db_role_setting
        left join runtime on runtime.oid = setrole,
            unnest(setconfig) as setting,
            lower(split_part(setting, '=', 1)) as name
        where (setrole = 0 or rolname is not null)
            and setdatabase in (
                0, (select oid from pg_database where datname = current_database())
            )
            and (
                name = any(%(settings)s)
                or rolname is not null and name = any(%(limits)s) and setting ~ '=0[a-z]*$'
            )
        """,
    ),
    Check(
        "server-setting",
        "the server gives every session the setting {object}, which decides whose rows it sees. "
        "Run {detail}.",
        """
        select name, 'ALTER SYSTEM RESET ' || name || ', or correct postgresql.conf'
        from pg_settings
        where name = any(%(settings)s)
            and source in (
                'configuration file', 'command line', 'environment variable', 'global'
            )
            and reset_val <> boot_val
        union all
        select 'app.tenant_id', 'ALTER SYSTEM RESET app.tenant_id, or correct postgresql.conf'
        where current_setting('app.tenant_id', true) <> '' and not exists (
            select from pg_db_role_setting, unnest(setconfig) as setting
            where lower(split_part(setting, '=', 1)) = 'app.tenant_id'
        )
        """,
    ),
    Check(
        "parameter-granted",
        "a runtime role may change the setting {object}, which only a superuser should. "
        "Run {detail}.",
        """
        select parname, format(
            'REVOKE %%s ON PARAMETER %%s FROM %%s', privilege_type, parname,
            case when grantee = 0 then 'PUBLIC' else grantee::regrole::text end
        )
        from pg_parameter_acl, aclexplode(paracl)
        where grantee = 0 or grantee in (select oid from runtime)
        """,
    ),
    Check(
        "function-setting",
        "the function {object} changes the tenant, or a setting that protects it, while it runs. "
        "Run {detail}.",
        """
        select proc.oid::regprocedure::text, format('DROP FUNCTION %%s', proc.oid::regprocedure)
        from pg_proc as proc
        where exists (
                select from runtime where has_function_privilege(oid, proc.oid, 'EXECUTE')
            )
            and proname <> all(%(allowed)s)
            and (
                exists (
                    select from unnest(proconfig) as setting
                    where lower(split_part(setting, '=', 1))
                        = any(array_remove(%(settings)s::text[], 'search_path'))
                )
                or proc.oid >= 16384
                    and coalesce(pg_get_function_sqlbody(proc.oid), prosrc)
                        ~* '(set_config|\\mset\\M)[^;]*app\\.tenant_id'
            )
        """,
    ),
)

CODE_CHECKS: Final = (
    Check(
        "calls",
        "{object} calls a function that comes neither from the migrations nor from PostgreSQL, and "
        "may use its owner's rights or change the tenant: {detail}.",
        """
        select distinct relations.name, format(
            '%%s calls %%s. Run %%s', pg_describe_object(part_class, part, 0),
            needed.objid::regprocedure,
            case part_class::regclass
                when 'pg_attrdef'::regclass then (
                    select case attgenerated
                        when '' then format(
                            'ALTER TABLE %%s ALTER COLUMN %%I DROP DEFAULT', name, attname
                        )
                        else format('ALTER TABLE %%s DROP COLUMN %%I', name, attname)
                    end
                    from pg_attrdef
                    join pg_attribute on attrelid = adrelid and attnum = adnum
                    where pg_attrdef.oid = part
                )
                when 'pg_constraint'::regclass then (
                    select format(
                        'ALTER TABLE %%s DROP CONSTRAINT %%I', conrelid::regclass, conname
                    )
                    from pg_constraint where oid = part
                )
                when 'pg_trigger'::regclass then (
                    select format('DROP TRIGGER %%I ON %%s', tgname, name)
                    from pg_trigger where oid = part
                )
                when 'pg_policy'::regclass then (
                    select format('DROP POLICY %%I ON %%s', polname, name)
                    from pg_policy where oid = part
                )
                when 'pg_statistic_ext'::regclass then (
                    select format('DROP STATISTICS %%I.%%I', nspname, stxname)
                    from pg_statistic_ext
                    join pg_namespace on pg_namespace.oid = stxnamespace
                    where pg_statistic_ext.oid = part
                )
                else case part
                    when relations.oid
                        then format('DROP FUNCTION %%s CASCADE', needed.objid::regprocedure)
                    else format('DROP INDEX %%s', part::regclass)
                end
            end
        )
        from needed
        join relations on relations.oid = relation
        join pg_proc as proc
            on needed.classid = 'pg_proc'::regclass and proc.oid = needed.objid
        where proc.oid not in (select oid from ours)
            and proname <> all(%(allowed)s)
            and (
                prosecdef
                or relation in (select oid from tenant_owned) and not exists (
                    select from computing
                    where computing.classid = 'pg_proc'::regclass and computing.objid = proc.oid
                )
            )
            -- The check "trigger" names these.
            and not (
                part_class = 'pg_trigger'::regclass
                and relation in (select oid from tenant_owned)
                and coalesce(library_name, '') || ' ' || (
                        select tgname from pg_trigger where oid = part
                    ) <> all(%(triggers)s)
            )
        """,
        tables=_KNOWN + _NEEDED,
    ),
    Check(
        "calls-volatile",
        "{object} calls a function of PostgreSQL that may have side effects, whenever a role reads "
        "or writes it: {detail}.",
        """
        select distinct name, format('%%s calls %%s. Run %%s', part, proc.oid::regproc, cure)
        from expressions
        cross join regexp_matches(tree, ':(?:op)?funcid (\\d+)', 'g') as reference
        join pg_proc as proc on proc.oid = reference[1]::oid
        where proc.oid < 16384 and provolatile = 'v' and proname <> all(%(harmless)s)
        """,
        tables=_IN_CODE,
    ),
    Check(
        "leakproof",
        "the function {object} is LEAKPROOF, so queries may pass it rows that a policy hides. "
        "Run {detail}.",
        """
        select proc.oid::regprocedure::text,
            format('ALTER ROUTINE %%s NOT LEAKPROOF', proc.oid::regprocedure)
        from pg_proc as proc
        where proleakproof and proc.oid >= 16384 and exists (
            select from runtime where has_function_privilege(oid, proc.oid, 'EXECUTE')
        )
        """,
    ),
    Check(
        "function-untrusted",
        "the function {object} is in an untrusted language, so it may do anything on the server. "
        "Run {detail}.",
        """
        select proc.oid::regprocedure::text,
            format('DROP ROUTINE %%s', proc.oid::regprocedure)
        from pg_proc as proc
        join pg_language on pg_language.oid = prolang and not lanpltrusted
        where proc.oid >= 16384
            and prokind <> 'a'  -- listed as internal; its functions are checked on their own
            and proname <> all(%(allowed)s)
            and not exists (
                select from computing
                where computing.classid = 'pg_proc'::regclass and computing.objid = proc.oid
            )
            and exists (
                select from runtime where has_function_privilege(oid, proc.oid, 'EXECUTE')
            )
        """,
        tables=_KNOWN,
    ),
    Check(
        "shadow",
        "the {object} may shadow an object of PostgreSQL or the migrations in a runtime role's "
        "statements. Run {detail}.",
        """
        , callable as (
            select proc.oid, proname, pronamespace
            from pg_proc as proc
            where proc.oid >= 16384
                and proc.oid not in (select oid from ours)
                and proname <> all(%(allowed)s)
                and not exists (
                    select from computing
                    where computing.classid = 'pg_proc'::regclass
                        and computing.objid = proc.oid
                )
                and exists (
                    select from runtime where has_function_privilege(oid, proc.oid, 'EXECUTE')
                )
        )
        select 'function ' || callable.oid::regprocedure,
            format('DROP ROUTINE %%s', callable.oid::regprocedure)
        from callable
        where pronamespace = 'pg_catalog'::regnamespace
            or pronamespace in (select oid from schemas) and exists (
                select from pg_proc as builtin
                where builtin.proname = callable.proname and builtin.oid < 16384
                    and builtin.pronamespace = 'pg_catalog'::regnamespace
            )
        union all
        select 'operator ' || operator.oid::regoperator,
            format('DROP OPERATOR %%s', operator.oid::regoperator)
        from pg_operator as operator
        join callable on callable.oid = oprcode
        where operator.oid >= 16384
        union all
        select format('cast from %%s to %%s', castsource::regtype, casttarget::regtype),
            format('DROP CAST (%%s AS %%s)', castsource::regtype, casttarget::regtype)
        from pg_cast
        join callable on callable.oid = castfunc
        union all
        select 'schema ' || nspname, format('DROP SCHEMA %%I', nspname)
        from schemas
        join runtime on runtime.rolname = nspname
        where nspname <> all(%(store_roles)s)
        """,
        tables=_KNOWN,
    ),
    Check(
        "event-trigger",
        "the event trigger {object} runs in the sessions of every role, including the migrations'. "
        "Run {detail}.",
        """
        select evtname, format('DROP EVENT TRIGGER %%I', evtname)
        from pg_event_trigger
        where evtenabled <> 'D' and evtname <> all(%(allowed)s)
        """,
    ),
    Check(
        "extension",
        "the extension {object} is not one of those known to run no SQL text and read no files. "
        "Run {detail}.",
        """
        select extname, format('DROP EXTENSION %%I', extname)
        from pg_extension
        where extname <> all(%(extensions)s) and extname <> all(%(allowed)s)
        """,
    ),
)

FLOW_CHECKS: Final = (
    Check(
        "publication",
        "the publication {detail} sends all tenants' rows of {object} to every subscriber. "
        "Run DROP PUBLICATION {detail}, or remove the table from it.",
        """
        select name, quote_ident(pubname)
        from pg_publication_tables
        join relations
            on relations.oid = to_regclass(format('%%I.%%I', schemaname, tablename))
        where pubname <> all(%(allowed)s)
        """,
    ),
    Check(
        "subscription",
        "the subscription {object} writes rows into this database that no policy checks. "
        "Run {detail}.",
        """
        select subname, format('DROP SUBSCRIPTION %%I', subname)
        from pg_subscription
        where subdbid = (select oid from pg_database where datname = current_database())
            and subname <> all(%(allowed)s)
        """,
    ),
    Check(
        "foreign",
        "a runtime role may use the {object} to read or write another database or a file, where "
        "no policy applies. Run {detail}.",
        """
        , grants as (
            select 'foreign table ' || name as object, 'TABLE ' || name as target, grantee
            from relations, aclexplode(relacl)
            where relkind = 'f'
            union all
            select 'server ' || quote_ident(srvname), format('FOREIGN SERVER %%I', srvname), grantee
            from pg_foreign_server, aclexplode(srvacl)
            union all
            select
                'wrapper ' || quote_ident(fdwname), format('FOREIGN DATA WRAPPER %%I', fdwname),
                grantee
            from pg_foreign_data_wrapper, aclexplode(fdwacl)
        )
        select distinct object, format('REVOKE ALL ON %%s FROM %%s', target,
            case when grantee = 0 then 'PUBLIC' else grantee::regrole::text end
        )
        from grants
        where grantee = 0 or grantee in (select oid from runtime)
        union all
        select 'server ' || quote_ident(srvname), format('DROP USER MAPPING FOR %%s SERVER %%I',
            case when umuser = 0 then 'PUBLIC' else umuser::regrole::text end, srvname
        )
        from pg_user_mappings
        where umuser = 0 or umuser in (select oid from runtime)
        """,
    ),
    Check(
        "child-of-anothers",
        "the rows of {object} count among its parent's, but it is a foreign table or has another "
        "owner, to whom the parent's policies do not apply. Run {detail}.",
        """
        select child.name, format('ALTER TABLE %%s %%s %%s',
            case when relispartition then parent.name else child.name end,
            case when relispartition then 'DETACH PARTITION' else 'NO INHERIT' end,
            case when relispartition then child.name else parent.name end
        )
        from pg_inherits
        join tenant_owned as parent on parent.oid = inhparent
        join relations as child on child.oid = inhrelid
        join pg_class on pg_class.oid = child.oid
        where child.relkind = 'f' or child.relowner <> parent.relowner
        """,
    ),
    Check(
        "large-object",
        "a runtime role has rights on the large object {object}, which cannot have policies. "
        "Run {detail}.",
        """
        select distinct metadata.oid::text, format('SELECT lo_unlink(%%s)', metadata.oid)
        from pg_largeobject_metadata as metadata
        left join lateral aclexplode(lomacl) as acl on true
        where lomowner in (select oid from runtime)
            or grantee = 0 or grantee in (select oid from runtime)
        """,
    ),
    Check(
        "system-granted",
        "a runtime role has a right on {object} that PostgreSQL does not give it, and that may "
        "expose or change the data of all tenants. Run {detail}.",
        """
        , system as (
            select oid, nspname, nspowner, nspacl
            from pg_namespace
            where nspname in ('pg_catalog', 'pg_toast')
        ),
        grants as (
            select 'pg_proc'::regclass as classid, pg_proc.oid as objid, 0 as objsubid,
                proacl as acl, acldefault('f', proowner) as usual, 'ROUTINE' as kind,
                pg_proc.oid::regprocedure::text as name, '' as part
            from pg_proc
            where pg_proc.oid < 16384 and proacl is not null
            union all
            select 'pg_class'::regclass, pg_class.oid, 0, relacl, acldefault('r', relowner),
                'TABLE', pg_class.oid::regclass::text, ''
            from pg_class
            join system on system.oid = relnamespace
            where relacl is not null
            union all
            select 'pg_class'::regclass, attrelid, attnum, attacl, acldefault('c', relowner),
                'TABLE', attrelid::regclass::text, format(' (%%I)', attname)
            from pg_attribute
            join pg_class on pg_class.oid = attrelid
            join system on system.oid = relnamespace
            where attacl is not null
            union all
            select 'pg_namespace'::regclass, oid, 0, nspacl, acldefault('n', nspowner),
                'SCHEMA', nspname::text, ''
            from system
            where nspacl is not null
        )
        select distinct name, format('REVOKE %%s%%s ON %%s %%s FROM %%s', privilege_type, part,
            kind, name, case when grantee = 0 then 'PUBLIC' else grantee::regrole::text end
        )
        from grants
        left join pg_init_privs as initial
            on classoid = classid and objoid = objid and initial.objsubid = grants.objsubid,
            aclexplode(acl) as entry
        where (grantee = 0 or grantee in (select oid from runtime))
            and not exists (
                select from aclexplode(coalesce(initprivs, usual)) as builtin
                where builtin.grantee in (0, entry.grantee)
                    and builtin.privilege_type = entry.privilege_type
            )
        """,
    ),
)
