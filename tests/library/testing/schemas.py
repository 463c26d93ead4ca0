"""What strangers have in their schemas: sound features, and holes that hide among them."""

from __future__ import annotations

from typing import Final

from tests.library.testing.sample import HOLES

RULE: Final = "tenant_id = nullif(current_setting('app.tenant_id', true), '')"


def protected(table: str, grants: str = "select, insert, update, delete") -> str:
    """Returns the SQL that protects a table soundly."""
    return f"""
        alter table {table} enable row level security;
        alter table {table} force row level security;
        create policy isolation on {table} to tenancy_tenant using ({RULE}) with check ({RULE});
        grant {grants} on {table} to tenancy_tenant
    """


# By name; `{t}` is a sound table as in `sample.TABLE`, and `{n}` its name without its schema.
# Those of `COLUMNS` do not keep a hole of the same table from being found.
COLUMNS: Final[dict[str, str]] = {
    "generated": """
        alter table {t} add twice bigint generated always as (number * 2) stored,
            add lower text generated always as (lower(reference)) stored
    """,
    "identity": "alter table {t} add line int not null generated always as identity",
    "serial": "alter table {t} add turn bigserial, add unique (tenant_id, turn)",
    "required": """
        alter table {t} add uid uuid not null, add at timestamptz not null,
            add price numeric(4, 2) not null, add "Flag" "char" not null, add bits bit(3) not null,
            add took interval not null
    """,
    "types": """
        create type holes.{n}_state as enum ('open', 'shut');
        create type holes.{n}_place as (street text, number int);
        create type holes.{n}_span as range (subtype = float8);
        create domain holes.{n}_code as varchar(8) check (value ~ '^[A-Z]{{2}}$');
        create domain holes.{n}_strict as holes.{n}_code not null;
        alter table {t} add a holes.{n}_state not null, add b holes.{n}_place not null,
            add c holes.{n}_span not null, add d int4multirange not null,
            add e holes.{n}_strict, add f holes.{n}_state[] not null, add g jsonpath not null,
            add h box not null, add i circle not null, add j json not null, add k line not null
    """,
    "checked": """
        alter table {t} add kind text not null check (kind in ('a', 'b')),
            add starts date not null, add ends date not null, add check (ends > starts),
            add level smallint not null check (level between 3 and 5)
    """,
    "excluded": """
        alter table {t} add slot int not null,
            add exclude using btree (tenant_id with =, slot with =)
    """,
    "details": """
        create table holes.{n}_details (
            tenant_id text not null, id bigint not null, detail text,
            primary key (tenant_id, id), foreign key (tenant_id, id) references {t}
        );
    """
    + protected("holes.{n}_details"),
    "deferred": """
        create table holes.{n}_parts (
            tenant_id text not null, id bigint not null, part text not null,
            primary key (tenant_id, id, part),
            foreign key (tenant_id, id) references {t} deferrable initially deferred
        );
    """
    + protected("holes.{n}_parts"),
    "made_by_a_trigger": """
        create table holes.{n}_history (
            tenant_id text not null, id bigint generated always as identity, of bigint not null,
            primary key (tenant_id, id), foreign key (tenant_id, of) references {t}
        );
        create function holes.{n}_remember() returns trigger language plpgsql as $$
        begin
            insert into holes.{n}_history (tenant_id, of) values (new.tenant_id, new.id);
            return new;
        end $$;
        create trigger remembers after insert on {t}
            for each row execute function holes.{n}_remember();
    """
    + protected("holes.{n}_history"),
    "self": """
        alter table {t} add successor bigint, add foreign key (tenant_id, successor)
            references {t} on delete set null (successor)
    """,
    "restrictive": "create policy more on {t} as restrictive to tenancy_tenant using (id > 0)",
    "stamped": """
        create function holes.{n}_stamp() returns trigger language plpgsql as
            $$ begin new.note := coalesce(new.note, 'none'); return new; end $$;
        create trigger stamps before insert or update on {t}
            for each row execute function holes.{n}_stamp()
    """,
}
FEATURES: Final[dict[str, str]] = {
    **COLUMNS,
    "no_cascade_in_depth": """
        create table holes.{n}_child (
            tenant_id text not null, id bigint not null, primary key (tenant_id, id),
            foreign key (tenant_id, id) references {t} on delete cascade
        );
        create table holes.{n}_grandchild (
            tenant_id text not null, id bigint not null, primary key (tenant_id, id),
            foreign key (tenant_id, id) references holes.{n}_child on delete restrict
        );
    """
    + protected("holes.{n}_child")
    + ";"
    + protected("holes.{n}_grandchild"),
    "circle": """
        create table holes.{n}_head (
            tenant_id text not null, id bigint not null, latest bigint not null,
            primary key (tenant_id, id)
        );
        create table holes.{n}_version (
            tenant_id text not null, id bigint not null, of bigint not null,
            primary key (tenant_id, id),
            foreign key (tenant_id, of) references holes.{n}_head
        );
        alter table holes.{n}_head add foreign key (tenant_id, latest)
            references holes.{n}_version deferrable initially deferred;
    """
    + protected("holes.{n}_head")
    + ";"
    + protected("holes.{n}_version"),
    "own_root": """
        alter table {t} add root bigint not null,
            add foreign key (tenant_id, root) references {t}
    """,
    "inherited": "create table holes.{n}_special (extra text) inherits ({t});"
    + protected("holes.{n}_special"),
    "partitions": """
        create table holes.{n}_by_list (
            tenant_id text not null, kind text not null, id int not null
        ) partition by list (kind);
        create table holes.{n}_a partition of holes.{n}_by_list for values in ('a');
        create table holes.{n}_by_hash (
            tenant_id text not null, id int not null, primary key (tenant_id, id)
        ) partition by hash (tenant_id);
        create table holes.{n}_0 partition of holes.{n}_by_hash
            for values with (modulus 2, remainder 0);
        create table holes.{n}_1 partition of holes.{n}_by_hash
            for values with (modulus 2, remainder 1);
    """
    + protected("holes.{n}_by_list")
    + ";"
    + protected("holes.{n}_by_hash"),
    "append_only": """
        create function holes.{n}_refuse() returns trigger language plpgsql as
            $$ begin raise exception 'entries are append-only'; end $$;
        create trigger refuses before update or delete on {t}
            for each row execute function holes.{n}_refuse()
    """,
    "keeps_its_tenant": """
        create function holes.{n}_keep() returns trigger language plpgsql as $$ begin
            if new.tenant_id <> old.tenant_id then raise 'a row keeps its tenant'; end if;
            return new;
        end $$;
        create trigger keeps before update on {t}
            for each row execute function holes.{n}_keep()
    """,
    "deleted_softly": """
        alter table {t} add deleted_at timestamptz;
        create function holes.{n}_mark() returns trigger language plpgsql as $$ begin
            update {t} set deleted_at = now() where id = old.id and tenant_id = old.tenant_id;
            return null;
        end $$;
        create trigger marks before delete on {t}
            for each row execute function holes.{n}_mark()
    """,
    "read_only": """
        drop policy isolation on {t};
        create policy reading on {t} for select to tenancy_tenant
            using (tenant_id = nullif(current_setting('app.tenant_id', true), ''))
    """,
    "policies": """
        drop policy isolation on {t};
        create policy reading on {t} for select
            using (tenant_id = nullif(current_setting('app.tenant_id', true), ''));
        create policy adding on {t} for insert to tenancy_tenant
            with check (tenant_id = nullif(current_setting('app.tenant_id', true), ''));
        create policy changing on {t} for update to tenancy_tenant
            using (tenant_id = nullif(current_setting('app.tenant_id', true), ''));
        create policy removing on {t} for delete to tenancy_tenant
            using (tenant_id = nullif(current_setting('app.tenant_id', true), ''));
        create policy removing_more on {t} for delete to tenancy_tenant using (
            tenant_id = nullif(current_setting('app.tenant_id', true), '') and note is null
        )
    """,
    "some_columns": """
        revoke all on {t} from tenancy_tenant;
        grant select (tenant_id, id, note), insert (tenant_id, reference, note), update (note)
            on {t} to tenancy_tenant
    """,
    "may_be_nobodys": """
        alter table {t} drop constraint {n}_pkey cascade, alter tenant_id drop not null,
            add unique (tenant_id, id)
    """,
    "shared_to_read": """
        alter table {t} drop constraint {n}_pkey cascade, alter tenant_id drop not null,
            add unique (tenant_id, id);
        create policy shared on {t} for select to tenancy_tenant using (tenant_id is null)
    """,
    "viewed_soundly": """
        create view holes.{n}_view with (security_invoker) as
            select *, reference || '!' as loud from {t};
        grant select, insert, update, delete on holes.{n}_view to tenancy_tenant
    """,
    "sound_definer": """
        create function holes.{n}_count(p_reference text) returns bigint
            language sql security definer as $$
                select count(*) from {t} where reference = p_reference
                    and tenant_id = nullif(current_setting('app.tenant_id', true), '')
            $$
    """,
    "refreshed": """
        create materialized view holes.{n}_totals as select count(*) from {t} with no data
    """,
}

# As `sample.HOLES`, without the kind of statement and what was seen.
MORE_HOLES: Final[dict[str, tuple[str, str]]] = {
    **{name: (hole, place) for name, (hole, place, *_) in HOLES.items()},
    "delete_of_parents": (
        COLUMNS["details"].replace("{n}", "of_parents")
        + "; create policy clean_up on {t} for delete to tenancy_tenant using (true)",
        "{t}",
    ),
    "excluded_for_all": (
        "alter table {t} add during int4range not null, add exclude using gist (during with &&)",
        "{t}",
    ),
    "shared_to_write": (
        "alter table {t} drop constraint shared_to_write_pkey cascade, "
        "alter tenant_id drop not null, add unique (tenant_id, id); "
        "create policy shared on {t} to tenancy_tenant using (tenant_id is null)",
        "{t}",
    ),
    "taken": (
        "create policy support on {t} for update to tenancy_tenant using (true) "
        f"with check ({RULE})",
        "{t}",
    ),
    "inherited_openly": (
        "create table holes.open_child () inherits ({t}); "
        "grant select on holes.open_child to tenancy_tenant",
        "holes.open_child",
    ),
    "numbered_by_a_trigger": (
        """
        create function holes.number_row() returns trigger language plpgsql security definer as $$
        begin new.number := (select count(*) from {t}); return new; end $$;
        create trigger numbers before insert on {t} for each row
            execute function holes.number_row()
        """,
        "{t}",
    ),
    "updated_elsewhere": (
        """
        create table holes.elsewhere (
            tenant_id text not null, id bigint generated always as identity, note text,
            primary key (tenant_id, id)
        );
        create function holes.mark_all() returns trigger language plpgsql security definer as $$
        begin update holes.elsewhere set note = new.note; return new; end $$;
        create trigger marks_all after update on {t} for each row
            execute function holes.mark_all();
        """
        + protected("holes.elsewhere", "select"),
        "{t}",
    ),
    "added_in_a_view": (
        "create view holes.to_add as select * from {t}; "
        "grant insert on holes.to_add to tenancy_tenant",
        "holes.to_add",
    ),
    "found_by_a_state": (
        """
        create type holes.state as enum ('open', 'shut');
        alter table {t} add state holes.state not null default 'open';
        create function holes.find_state(p_limit int, p_state holes.state) returns bigint
            language sql security definer
            as 'select count(*) from {t} where state = p_state and p_limit is not null'
        """,
        "holes.find_state(integer,holes.state)",
    ),
    "lines_without_a_tenant": (
        """
        alter table {t} add token uuid not null unique default gen_random_uuid();
        create table holes.lines (
            parent uuid not null references {t} (token), position int not null, note text,
            primary key (parent, position)
        );
        grant select on holes.lines to tenancy_tenant
        """,
        "holes.lines",
    ),
}

UNUSUAL: Final = "create table holes.archive (org_id text not null, id bigint, note text);"
# Tables whose rows the check cannot give to a tenant: SQL that comes after `UNUSUAL`, and whether
# the role reaches every row.
OF_NOBODY: Final[dict[str, tuple[str, bool]]] = {
    "readable": ("grant select on holes.archive to tenancy_tenant", True),
    "readable by everybody": ("grant select on holes.archive to public", True),
    "a column": ("grant select (note) on holes.archive to tenancy_tenant", True),
    "writable": ("grant insert on holes.archive to tenancy_tenant", True),
    "out of reach": ("", False),
    "without a policy": (
        "alter table holes.archive enable row level security; "
        "grant select on holes.archive to tenancy_tenant",
        False,
    ),
    "an open policy": (
        "alter table holes.archive enable row level security; "
        "create policy everybody on holes.archive using (true); "
        "grant select on holes.archive to tenancy_tenant",
        True,
    ),
    "a version of Alembic's": (
        "drop table holes.archive; create table holes.archive (version_num varchar(32)); "
        "grant select on holes.archive to tenancy_tenant",
        False,
    ),
    "partitioned": (
        "drop table holes.archive; create table holes.archive (org_id text) "
        "partition by list (org_id); "
        "create table holes.archive_a partition of holes.archive for values in ('a'); "
        "grant select on holes.archive, holes.archive_a to tenancy_tenant",
        True,
    ),
}

# Holes that other features of the same table close: what a trigger inserts lacks a required column
# or is refused by another table's policy, a table with children cannot be truncated, and the role
# may not give all columns.
ALONE: Final = frozenset(
    {"added_in_a_view", "copied_by_a_trigger", "truncated", "numbered_over_all"}
)
