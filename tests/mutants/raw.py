"""The mutants of raw connections: faults in a tenant's transaction on one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Final

from sqlalchemy import text

from temporal_tenancy.outbox import _raw_requests
from temporal_tenancy.postgres import open_transactions, transactions
from temporal_tenancy.postgres.raw_session import RawSession
from tests.mutants.mutant import Mutant, replace

RAW: Final = "tests/library/postgres/test_tenant_transactions.py"
DJANGO: Final = "tests/library/django/test_django.py"
ATTACKS: Final = "tests/library/postgres/test_transaction_attacks.py"
REQUESTS: Final = "tests/library/outbox/test_raw_requests.py"


def _commit_in_any_scope() -> None:
    replace(transactions, "require_tenant", lambda tenant: None)


async def _nothing(*args: Any) -> None:
    """Checks nothing."""


def _accept_every_role() -> None:
    replace(transactions, "refuse_excess_rights", _nothing)


def _set_for_the_session() -> None:
    def statement(limits: object, by_server: bool) -> Any:
        sql = real(limits, by_server).text
        mine = "set_config('app.tenant_id', :tenant, true)"
        assert mine in sql
        return text(sql.replace(mine, mine.replace("true", "false")))

    real: Any = transactions._first_statement
    replace(transactions, "_first_statement", statement)


def _leave_what_outlives_the_transaction() -> None:
    async def check(connection: Any, opened: Any) -> None:
        transactions.require_tenant(opened.tenant)
        opened.stage = open_transactions.Stage.COMMITTING

    replace(transactions, "prepare_commit", check)


def _join_any_transaction() -> None:
    replace(open_transactions, "_require_idle", lambda connection, tenant: None)


def _begin_inside_another_ones() -> None:
    @contextmanager
    def claim(
        connection: Any, tenant: str, schema: str, *, is_inside: bool = False
    ) -> Iterator[Any]:
        opened = open_transactions.OpenTransaction(tenant, schema)
        yield opened

    replace(transactions, "claimed", claim)
    replace(transactions, "joined", lambda connection, tenant: None)


def _trust_a_rollback() -> None:
    replace(transactions, "clean_after_rollback", _nothing)


def _mix_blocks() -> None:
    replace(transactions, "OutOfOrderTransactionNesting", KeyError)
    replace(open_transactions.OpenTransaction, "containing", lambda self: nullcontext())


def _use_any_transaction() -> None:
    def bound(connection: Any) -> Any:
        found = open_transactions.found(connection)
        schema = "public" if found is None else found.schema
        return RawSession(connection, schema)

    replace(_raw_requests, "bound_session", bound)


def _quote_values() -> None:
    replace(transactions, "withhold_values", lambda error: None)


RAW_FAULTS: Final = [
    Mutant(
        "raw-commit-unchecked",
        "a raw transaction commits after its scope has closed or changed",
        (
            f"{RAW}::test_a_commit_whose_scope_has_closed_is_refused",
            f"{RAW}::test_a_commit_in_another_tenants_scope_is_refused",
        ),
        seed=_commit_in_any_scope,
    ),
    Mutant(
        "raw-role-unchecked",
        "a raw connection may log in as the owner, a superuser or the relay",
        (f"{RAW}::test_a_role_that_sees_more_than_one_tenant_is_refused",),
        seed=_accept_every_role,
    ),
    Mutant(
        "raw-setting-of-the-session",
        "a raw transaction sets its tenant for the session, and a rollback of SQL's keeps it",
        (f"{RAW}::test_a_transaction_that_sql_ends_shows_no_rows_and_is_noticed",),
        seed=_set_for_the_session,
    ),
    Mutant(
        "raw-leaves-things",
        "a raw transaction leaves a setting, a cursor and a temporary table behind",
        (f"{RAW}::test_nothing_of_the_tenant_is_left_on_the_connection",),
        seed=_leave_what_outlives_the_transaction,
    ),
    Mutant(
        "raw-joins-any-transaction",
        "a tenant's transaction joins one that was begun without a tenant",
        (f"{RAW}::test_a_connection_in_a_transaction_is_refused",),
        seed=_join_any_transaction,
    ),
    Mutant(
        "raw-begins-inside-another",
        "a task's transaction on a shared connection becomes a part of another tenant's",
        (f"{ATTACKS}::test_tasks_that_share_a_connection_never_see_anothers_rows",),
        seed=_begin_inside_another_ones,
    ),
    Mutant(
        "raw-trusts-a-rollback",
        "what SQL in a block has committed outlives a block that fails",
        (f"{ATTACKS}::test_what_sql_committed_does_not_outlive_a_block_that_rolls_back",),
        seed=_trust_a_rollback,
    ),
    Mutant(
        "raw-mixes-blocks",
        "blocks of two tasks that overlap on a connection are committed",
        (f"{ATTACKS}::test_blocks_of_two_tasks_that_overlap_commit_nothing",),
        seed=_mix_blocks,
    ),
    Mutant(
        "raw-requests-anywhere",
        "a job is requested on a raw connection outside its tenant's transaction",
        (f"{REQUESTS}::test_without_the_tenants_transaction_nothing_is_requested",),
        seed=_use_any_transaction,
    ),
    Mutant(
        "raw-errors-quote-values",
        "an error that leaves a raw transaction quotes a row",
        (
            f"{RAW}::test_an_error_rolls_back_and_names_no_value",
            f"{DJANGO}::test_an_error_rolls_back_and_names_no_value",
        ),
        seed=_quote_values,
    ),
]
