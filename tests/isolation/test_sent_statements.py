"""The statement guard against the server: it refuses what takes a session out of its tenant.

The server is the judge. Each statement is sent unguarded, in a transaction that names a tenant. If
it changes the tenant, a limit, the role, the transaction or a lock on the table, then the guard
must refuse it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg.pq import TransactionStatus

from dev.devstack.postgres import DatabaseUrls, EmbeddedPostgres
from temporal_tenancy.postgres._statement_guard import refusal
from temporal_tenancy.postgres.connections import connect

BEGIN = """
    begin;
    select set_config('app.tenant_id', 'ua', true);
    set local statement_timeout = '5s';
    set local lock_timeout = '1s'
"""
LOOK = """
    select
        current_setting('app.tenant_id', true),
        current_setting('statement_timeout'),
        current_setting('lock_timeout'),
        current_setting('standard_conforming_strings'),
        current_user,
        current_setting('search_path'),
        (
            select count(*) from pg_locks
            where pid = pg_backend_pid() and relation = 'contacts'::regclass
                and mode = 'AccessExclusiveLock'
        )
"""
SEEDS = [
    "commit",
    "rollback",
    "end",
    "abort",
    "commit and chain",
    "rollback and chain",
    "lock contacts",
    "lock table only contacts in access exclusive mode",
    "set app.tenant_id = 'dl'",
    "set local app.tenant_id to 'dl'",
    "set session app.tenant_id = 'dl'",
    'set "app"."tenant_id" = \'dl\'',
    "set local \"app.tenant_id\" = 'dl'",
    "reset app.tenant_id",
    "reset all",
    "set statement_timeout = 0",
    "set local lock_timeout = 0",
    'set "Statement_Timeout" = 7',
    "set search_path to other",
    "set local schema 'other'",
    "select set_config('search_path', 'other', true)",
    "set role tenancy_platform",
    "set local role tenancy_platform",
    "set session authorization tenancy_platform",
    "set standard_conforming_strings = off",
    "select set_config('app.tenant_id', 'dl', true)",
    "select pg_catalog.set_config('statement_timeout', '7', false)",
    "select pg_catalog.\"set_config\"('lock_timeout', '7', false)",
    "select set_config(E'app\\\\x2etenant_id', 'dl', true)",
    "select set_config(U&'app\\\\002etenant_id', 'dl', true)",
    "select U&\"\\\\0073et_config\"('app.tenant_id', 'dl', true)",
    "select set_config($$app.tenant_id$$, 'dl', true)",
    "update pg_settings set setting = '7' where name = 'statement_timeout'",
    "do $$ begin perform set_config('app.tenant_id', 'dl', true); end $$",
    "do 'begin lock contacts; end'",
]
# What can separate two words, and what can come before and after a statement.
BLANKS = st.sampled_from(
    [" ", "\t", "\n", "\r", "\f", "\v", "/**/", "/* ; */", "/*/**/*/", "/*'*/", "--\n", "--'\r\n"]
).filter(bool)
EDGES = st.sampled_from(
    [
        *(
            "",
            " ",
            ";",
            ";;",
            "(",
            ")",
            "'",
            '"',
            "$",
            "$$",
            "$a$",
            "E'",
            "U&'",
            'U&"',
            "\\",
            "\\'",
        ),
        *("/*", "*/", "--", "\n", "\r", "''", '""', "%", "%%", "%s", "a", "1", "1e", "x'", "b'0'"),
        *(
            "select 1",
            "select '",
            "select E'",
            "select $$",
            'select "',
            "select 1 as a$$",
            "select",
        ),
        *(
            " as ",
            " -- ",
            "\u00a0",
            "\u2028",
            "é",
            "+",
            "*",
            "/",
            "-",
            "rollback to ",
            "savepoint s",
        ),
        *("'a'\n", "E'a'\n'", "E'a' --\n'", "explain ", "begin;", "with x as (", " union all "),
    ]
)


@dataclass(frozen=True)
class Judge:
    """A connection that tries statements on the server."""

    connection: psycopg.Connection[Any]

    def takes(self, statement: str) -> bool:
        """Whether `statement` makes the server do what a tenant's session may not."""
        server = self.connection.pgconn
        server.exec_(BEGIN.encode())
        before = self._look()
        server.exec_(statement.encode())
        try:
            if server.transaction_status == TransactionStatus.INTRANS:
                return self._look() != before
            # After an error the transaction has failed, but has not ended.
            return server.transaction_status == TransactionStatus.IDLE
        finally:
            server.exec_(b"rollback")
            server.exec_(b"reset session authorization; reset role; reset all")

    def _look(self) -> list[bytes | None]:
        result = self.connection.pgconn.exec_(LOOK.encode())
        return [result.get_value(0, column) for column in range(result.nfields)]


@pytest.fixture(scope="module")
def urls(postgres: EmbeddedPostgres, migrated_template: str) -> Iterator[DatabaseUrls]:
    yield postgres.create_database("judged", template=migrated_template)
    postgres.drop_database("judged")


@pytest.fixture(scope="module")
def judge(urls: DatabaseUrls) -> Iterator[Judge]:
    # A superuser, so that statements which need more rights are judged too.
    with connect(urls.superuser) as connection:
        yield Judge(connection)


@st.composite
def disguised(draw: st.DrawFn) -> str:
    """One of the seeds, with other blanks and with other text around it."""
    words = draw(st.sampled_from(SEEDS)).split(" ")
    text = words[0]
    for word in words[1:]:
        text += draw(st.just(" ") | BLANKS) + word
    before = "".join(draw(st.lists(EDGES | BLANKS, max_size=5)))
    behind = "".join(draw(st.lists(EDGES | BLANKS, max_size=3)))
    return before + text + behind


@pytest.mark.parametrize("statement", SEEDS)
def test_the_server_takes_each_seed_and_the_guard_refuses_it(judge: Judge, statement: str) -> None:
    statement = statement.replace("\\\\", "\\")
    assert judge.takes(statement)
    assert refusal(statement, placeholders=False) is not None


@settings(
    max_examples=500,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(statement=disguised())
@example("select E'a'\n'\\'; commit; --'")
@example("select 1 as a$$; commit; select $$")
def test_what_the_server_takes_the_guard_refuses(judge: Judge, statement: str) -> None:
    if refusal(statement, placeholders=False) is None:
        assert not judge.takes(statement)


@settings(
    max_examples=600,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    pieces=st.lists(
        st.sampled_from(
            [
                "'",
                "''",
                '"',
                '""',
                "$",
                "$$",
                "$a$",
                "$b$",
                "E'",
                "e'\\",
                "U&",
                "U&'",
                "\\",
                "\\'",
                ";",
                ";commit;",
                "commit",
                ";",
                "/*",
                "*/",
                "/*/",
                "--",
                "\n",
                "\r",
                "\t",
                "\x0b",
                "(",
                ")",
                "a",
                "a$",
                "1",
                "$1",
                "select",
                ",",
                "n'",
                "b'",
                "x'",
                "+",
                "-",
                "*",
                "/",
                "%",
                "é",
                "\xa0",
                "lock\tcontacts",
                " ",
                ";",
            ],
        ),
        max_size=14,
    )
)
def test_it_reads_quotes_and_comments_as_the_server_does(judge: Judge, pieces: list[str]) -> None:
    statement = "select 1" + "".join(pieces) + ";commit"
    if refusal(statement, placeholders=False) is None:
        assert not judge.takes(statement)
