"""Which SQL is rejected for a tenant, and which is sent."""

from __future__ import annotations

import pytest

from temporal_tenancy.postgres._statement_guard import (
    CODE,
    CONNECTION,
    LOCK,
    REACH,
    ROLE,
    SERVER_FILE,
    SETTING,
    TRANSACTION,
    UNREADABLE,
    refusal,
)

REFUSED = {
    TRANSACTION: [
        "commit",
        " COMMIT AND CHAIN",
        "/**/ commit and chain",
        "/* /* */ commit */ commit",
        "-- x\n commit",
        "-- x\rcommit",
        ";commit",
        "( commit",
        "select 1; commit",
        "select ';'; commit",
        "select $$;$$; commit",
        "select E'\\';'; commit",
        "select E'a'\n'\\'; select '; commit; --'",
        "select e'' -- and goes on\n'\\'; commit; --'; select 1; commit",
        'select 1 as ";"; commit',
        "select 1\v;\fcommit",
        "select 1 /*/*;*/--*/;commit",
        "select a$$b, 1; commit; select $$",
        "end",
        "abort",
        "begin",
        "start transaction",
        "rollback",
        "rollback work",
        "rollback prepared 'x'",
        "rollback /* to */",
        "rollback -- to\n",
        "prepare transaction 'x'",
        "commit prepared 'x'",
        "PREPARE/**/TRANSACTION 'x'",
    ],
    SETTING: [
        "set app.tenant_id = 'dl'",
        "set local app.tenant_id to dl",
        "SET SESSION App.Tenant_Id = 'dl'",
        'set "app".tenant_id = 1',
        'set "app.tenant_id" = 1',
        "set/**/app/**/./**/tenant_id = 1",
        "reset app.tenant_id",
        "reset all",
        "set statement_timeout = 0",
        "set local lock_timeout = 0",
        'set "Statement_Timeout" = 0',
        "set idle_in_transaction_session_timeout = 0",
        "set transaction_timeout = 0",
        "reset statement_timeout",
        "set role tenancy_platform",
        "set local role tenancy_platform",
        "set session role tenancy_platform",
        "reset role",
        "set session authorization other",
        "set local session authorization other",
        "set session session authorization other",
        "set session_authorization to other",
        "reset session authorization",
        "set search_path = pg_temp",
        "set local search_path to other, public",
        "set schema 'other'",
        "set local schema 'other'",
        "reset search_path",
        "select set_config('search_path', 'other', true)",
        "select set_config('Role', 'none', true)",
        "set standard_conforming_strings = off",
        "set client_encoding = 'sjis'",
        "set names 'sjis'",
        "select set_config('app.tenant_id', 'dl', true)",
        "select pg_catalog.set_config('app.tenant_id', 'dl', true)",
        "select \"set_config\"('app.tenant_id', 'dl', true)",
        "select set_config /**/ ( /**/ 'APP.tenant_id', 'dl', true)",
        "select set_config('lock' || '_timeout', '0', true)",
        "select set_config('app.'\n'tenant_id', 'dl', true)",
        "select set_config(E'app\\x2etenant_id', 'dl', true)",
        "select set_config(U&'app\\002etenant_id', 'dl', true)",
        "select set_config($$app.tenant_id$$, 'dl', true)",
        "select set_config(%(name)s, 'dl', true)",
        "select set_config(new_value => 'dl', setting_name => 'app.tenant_id', is_local => true)",
        "select set_config(name, '0', true) from (values ('lock_timeout')) as t (name)",
        "prepare x as select set_config($1, $2, true)",
        "insert into t select set_config('role', 'x', true)",
        "create operator === (function = set_config)",
        "update pg_settings set setting = '0' where name = 'lock_timeout'",
        'update "pg_settings" set setting = 0',
        "with x as (update pg_catalog.pg_settings set setting = 0) select 1",
        "select 1 where exists (select set_config('app.tenant_id', '', true))",
    ],
    LOCK: ["lock contacts", "lock table contacts in share mode", "/**/LOCK/**/contacts nowait"],
    ROLE: [
        "alter role tenancy_tenant set lock_timeout = 0",
        "alter user current_user set role = x",
        "alter group x rename to y",
        "alter database saas set lock_timeout = 0",
        "alter system set lock_timeout = 0",
    ],
    CODE: [
        "do $$ begin perform 1; end $$",
        "do language plpgsql 'begin commit; end'",
        "create function pg_temp.f() returns void language sql as 'select 1'",
        "create or replace function pg_temp.f() returns void language sql as 'select 1'",
        "create or replace procedure pg_temp.p() language sql as 'select 1'",
        "alter function f() set lock_timeout = 0",
    ],
    CONNECTION: ["discard all", "discard temp", "listen outbox"],
    SERVER_FILE: [
        "copy t to program 'curl'",
        "copy t from program 'cat'",
        "copy t to '/tmp/x'",
        "copy (select 1 as stdout from t) to '/tmp/x'",
        "copy (select 'to stdout') to program 'cat'",
    ],
    REACH: [
        "select query_to_xml('commit', true, true, '')",
        "select * from ts_stat('select set_config(1)')",
        "select pg_terminate_backend(pid) from pg_stat_activity",
        'select pg_catalog . "pg_cancel_backend"(1)',
    ],
    UNREADABLE: [
        "; select '",
        '; select "',
        "; select /*",
        "; select /* /* */",
        "; select $$",
        "; select E'\\'",
        "x\0; commit",
        'select U&"s\\0065t_config"(1)',
        "select u&\"!0073et_config\" uescape '!'",
    ],
}
SENT = [
    "select '",  # one statement, whatever it contains: the server reports the error
    "",
    ";",
    "select 1",
    "select 'commit'; select $$lock$$; select $x$;commit$$$x$",
    "select 'it''s; commit'",
    "select E'\\'; commit; --'",
    "select 'a' -- ; commit\n",
    "select 1 /* ; commit /* ; lock t */ ; commit */",
    'select 1 as "; commit"',
    "select a$$commit from t",
    "select n'; commit'",
    "rollback to savepoint s",
    "rollback work to s",
    "ROLLBACK TRANSACTION TO SAVEPOINT s",
    "savepoint s",
    "release s",
    "prepare x as select 1",
    "set local work_mem = '1MB'",
    "set constraints all deferred",
    "set transaction isolation level serializable",
    "set time zone 'UTC'",
    "reset work_mem",
    "select set_config('enable_sort', 'off', true)",
    "select name from pg_settings",
    "update t set lock = 1, role = 2",
    "with x as (select 1) select * from x",
    "select * from t for update",
    "copy t from stdin (format csv)",
    "copy (select a, (select b from c) from t) to stdout",
    "create temporary table x (n int) on commit drop",
    "create or replace view pg_temp.v as select 1",
    "alter table x add column y int",
    "declare c cursor for select 1",
    "notify outbox",
    "select '%%' || %(commit)s",
    "insert into t values (%(lock)s); select 1",
    "explain (analyze) select 1",
    "commitment",
    "\u00a0commit",  # a letter to the server
    "select 'пример'; select 'ß'",
]


@pytest.mark.parametrize(
    ("statement", "reason"),
    [(statement, reason) for reason, statements in REFUSED.items() for statement in statements],
)
def test_what_could_take_a_session_from_its_tenant_is_refused(statement: str, reason: str) -> None:
    assert refusal(statement, placeholders=True) == reason
    if '"' not in statement:
        assert refusal(statement.upper(), placeholders=True) is not None


@pytest.mark.parametrize("statement", SENT)
def test_what_is_harmless_is_sent(statement: str) -> None:
    assert refusal(statement, placeholders=True) is None
    assert refusal(f"{statement}\n", placeholders=True) is None


@pytest.mark.parametrize(
    ("statement", "placeholders", "refused"),
    [
        # The driver replaces the parameter by a number, which removes its name.
        ("select 1 as a; select %(')s, 1; commit; --')s", True, True),
        ("select 1; select %(; commit; --)s", True, False),
        ("select 1; select 1 %(; commit; --)s", False, True),
        ("select 1; select 1 %%(; commit; --)s", True, True),
    ],
)
def test_a_statement_is_read_as_the_driver_sends_it(
    statement: str, placeholders: bool, refused: bool
) -> None:
    assert (refusal(statement, placeholders=placeholders) is not None) is refused


def test_a_long_statement_is_read_too() -> None:
    values = ", ".join(f"(%(a__{number})s, 'x;')" for number in range(1_000))
    assert refusal(f"insert into t values {values}", placeholders=True) is None
    assert refusal(f"insert into t values {values}; commit", placeholders=True) == TRANSACTION
