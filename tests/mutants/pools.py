"""The mutants of sessions: faults in their limits, their shares and the statements they refuse."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from typing import Any, Final

from psycopg import AsyncConnection
from sqlalchemy import text

from temporal_tenancy.postgres import (
    _connection_guard as connection_guard,
)
from temporal_tenancy.postgres import (
    _connection_shares as connection_shares,
)
from temporal_tenancy.postgres import (
    _guarded_connection as guarded_connection,
)
from temporal_tenancy.postgres import (
    _statement_guard as statement_guard,
)
from temporal_tenancy.postgres import (
    database_errors,
    tenant_owned,
)
from temporal_tenancy.postgres._connection_shares import ConnectionShares, Holder
from temporal_tenancy.postgres._guarded_connection import GuardedConnection
from temporal_tenancy.postgres._shared_pool import SharedPool
from temporal_tenancy.postgres._transaction_clock import TransactionClock
from temporal_tenancy.postgres.pool_share import PoolShare
from temporal_tenancy.postgres.session_limits import SessionLimits
from tests.mutants.mutant import Mutant, replace

LIMITS: Final = "tests/library/postgres/test_session_limits.py"
SHARES: Final = "tests/library/postgres/test_connection_shares.py"
PLANS: Final = "tests/library/postgres/test_plan_limits.py"
POOL: Final = "tests/isolation/test_pool_shares.py"
ROUND_TRIPS: Final = "tests/library/postgres/test_round_trips.py"
GUARD: Final = "tests/library/postgres/test_statement_guard.py"
SESSIONS: Final = "tests/library/postgres/test_database.py"
TEMPLATE: Final = "template_library"

_TENANT_ALONE: Final = "select set_config('app.tenant_id', :tenant, true)"


def _set_no_limits() -> None:
    replace(tenant_owned, "_set_tenant", lambda limits, by_server: text(_TENANT_ALONE))


def _leave_the_roles_clock_running() -> None:
    statement = tenant_owned._SET_TRANSACTION
    stop = "set_config('transaction_timeout', '0', true),"
    assert stop in statement
    replace(tenant_owned, "_SET_TRANSACTION", statement.replace(stop, ""))


def _count_nowhere() -> None:
    replace(TransactionClock, "begin", lambda self, limit: None)


def _share_everything() -> None:
    replace(PoolShare, "most", property(lambda share: share.size))


def _share_alike_in_all_plans() -> None:
    replace(PoolShare, "most_of", lambda share, part: share.most)


def _leave_a_raised_share_to_the_next_return() -> None:
    def owner_of(self: ConnectionShares, holder: Holder) -> Any:
        owner = self._owners.setdefault(holder.owner, connection_shares._Owner(self.share.most))
        owner.most = holder.most or owner.most
        return owner

    replace(ConnectionShares, "_owner_of", owner_of)


def _limit_alike_in_all_plans() -> None:
    replace(SessionLimits, "of_plan", lambda limits, plan: limits)


def _take_a_commit_for_a_reset() -> None:
    replace(
        GuardedConnection,
        "commit_and_send",
        lambda connection, message: AsyncConnection.commit(connection),
    )
    clean = ("false", "false", '"$user", public')
    replace(GuardedConnection, "take_row_with_commit", lambda connection: clean)


def _keep_the_row_of_a_commit() -> None:
    replace(GuardedConnection, "forget_row_with_commit", lambda connection: None)


def _begin_plainly() -> None:
    replace(GuardedConnection, "beginning", lambda connection: "begin")


def _let_autocommit_through() -> None:
    replace(connection_guard, "_refuse_autocommit", lambda connection: None)


def _return_nothing() -> None:
    def put_back(self: SharedPool, record: Any) -> None:
        self._holders.pop(record, None)
        super(SharedPool, self)._do_return_conn(record)

    replace(SharedPool, "_do_return_conn", put_back)


def _keep_what_was_granted_to_the_cancelled() -> None:
    replace(ConnectionShares, "wait", _waiting_without_return)


async def _waiting_without_return(self: ConnectionShares, holder: Holder) -> None:
    """Waits as the real one does, but without its handling of cancellation."""
    owner = self._owner_of(holder)
    waiter = connection_shares._Waiter(asyncio.get_running_loop().create_future())
    if not owner.waiting:
        self._turns.append(holder.owner)
    owner.waiting.append(waiter)
    await self._until_granted(holder.owner, owner, waiter)
    holder.connections += 1


def _wait_inside_a_session() -> None:
    replace(ConnectionShares, "_holds", lambda self, holder: False)


def _wait_for_what_is_blocked() -> None:
    replace(ConnectionShares, "_is_blocked", lambda self, owner: False)


class _Stack(deque[str]):
    """Turns in which the owner that was just served is next."""

    def append(self, name: str, /) -> None:
        if name in _SERVED:
            self.appendleft(name)
        else:
            _SERVED.add(name)
            super().append(name)


_SERVED: Final[set[str]] = set()


def _serve_one_tenant_to_the_end() -> None:
    def begin(self: ConnectionShares, *args: Any) -> None:
        real(self, *args)
        self._turns = _Stack()

    real = ConnectionShares.__init__
    replace(ConnectionShares, "__init__", begin)


def _send_everything() -> None:
    replace(guarded_connection, "refusal", lambda statement, *, placeholders: None)


def _end_comments_early() -> None:
    replace(statement_guard, "_comment_end", lambda text, at: text.index("*/", at) + 2)
    statement_guard._read_once.cache_clear()


def _end_strings_early() -> None:
    replace(statement_guard, "_CONTINUED", re.compile(r"(?!)"))
    statement_guard._read_once.cache_clear()


def _read_backslashes_as_text() -> None:
    replace(statement_guard, "_ESCAPED_BODY", re.compile(r"(?:[^']|'')*'", re.DOTALL))
    statement_guard._read_once.cache_clear()


def _quote_values() -> None:
    replace(database_errors, "_withhold_clients_words", lambda error: None)


POOL_FAULTS: Final = [
    Mutant(
        "limits-not-set",
        "a tenant's transaction has only the role's limits",
        (f"{LIMITS}::test_every_transaction_has_its_limits",),
        seed=_set_no_limits,
    ),
    Mutant(
        "transaction-limit-not-its-own",
        "a transaction keeps the role's timeout, which is running already",
        (f"{LIMITS}::test_a_transaction_left_alone_is_ended_and_says_so",),
        seed=_leave_the_roles_clock_running,
    ),
    Mutant(
        "transaction-limit-nobody-counts",
        "without transaction_timeout on the server nothing limits a transaction",
        (f"{LIMITS}::test_where_the_server_does_not_count_the_client_does",),
        seed=_count_nowhere,
    ),
    Mutant(
        "role-without-limits",
        "a role has no limits of its own",
        (f"{LIMITS}::test_each_role_has_limits_in_this_database",),
        schema=f"alter role tenancy_relay in database {TEMPLATE} reset statement_timeout",
    ),
    Mutant(
        "share-not-enforced",
        "a tenant may hold every connection",
        (f"{POOL}::test_jobs_of_one_tenant_end_while_those_of_another_are_blocked",),
        seed=_share_everything,
    ),
    Mutant(
        "share-alike-in-all-plans",
        "a plan's share of the connections counts for nothing",
        (f"{PLANS}::test_a_tenant_holds_the_part_of_the_pool_that_its_plan_says",),
        seed=_share_alike_in_all_plans,
    ),
    Mutant(
        "raised-share-left",
        "sessions that wait do not get what a larger share would give them",
        (f"{SHARES}::test_a_larger_share_is_given_to_those_who_wait_for_it",),
        seed=_leave_a_raised_share_to_the_next_return,
    ),
    Mutant(
        "limits-alike-in-all-plans",
        "a plan's limits of a session count for nothing",
        (f"{PLANS}::test_a_plans_limits_are_those_of_its_tenants_sessions_in_each_store",),
        seed=_limit_alike_in_all_plans,
    ),
    Mutant(
        "share-not-returned",
        "a returned connection does not come back to the share",
        (f"{POOL}::test_a_lost_connection_comes_back_to_the_share",),
        seed=_return_nothing,
    ),
    Mutant(
        "share-kept-by-the-cancelled",
        "a cancelled waiter keeps the connection that it was just granted",
        (f"{SHARES}::test_who_is_cancelled_keeps_nothing",),
        seed=_keep_what_was_granted_to_the_cancelled,
    ),
    Mutant(
        "share-waited-for-inside",
        "a session inside another session waits for a connection",
        (f"{SHARES}::test_a_second_connection_inside_a_session_is_never_waited_for",),
        seed=_wait_inside_a_session,
    ),
    Mutant(
        "blocked-work-waited-for",
        "a waiter for a tenant's blocked work keeps its slot",
        (f"{SHARES}::test_blocked_work_is_given_up_and_then_refused_at_once",),
        seed=_wait_for_what_is_blocked,
    ),
    Mutant(
        "waiters-not-in-turns",
        "all waiting sessions of one tenant come before the next tenant's",
        (f"{SHARES}::test_those_who_wait_are_served_tenant_by_tenant",),
        seed=_serve_one_tenant_to_the_end,
    ),
    Mutant(
        "reset-left-out-of-the-commit",
        "a session's last commit counts as a reset that it does not send",
        (f"{SESSIONS}::test_nothing_else_outlives_a_session_on_its_connection",),
        seed=_take_a_commit_for_a_reset,
    ),
    Mutant(
        "reset-before-more",
        "what is sent after a commit is not checked, because the commit was",
        (
            f"{ROUND_TRIPS}::test_the_row_of_what_was_sent_with_a_commit_is_worth_nothing_after_more",
        ),
        seed=_keep_the_row_of_a_commit,
    ),
    Mutant(
        "characteristics-forgotten",
        "a transaction is begun as if no isolation level had been asked for",
        (f"{ROUND_TRIPS}::test_a_transaction_has_the_characteristics_that_were_asked_for",),
        seed=_begin_plainly,
    ),
    Mutant(
        "autocommit-not-refused",
        "a tenant's session in AUTOCOMMIT mode is let through",
        (f"{SESSIONS}::test_autocommit_is_refused",),
        seed=_let_autocommit_through,
    ),
    Mutant(
        "statements-unread",
        "every statement is sent",
        (f"{SESSIONS}::test_the_drivers_own_cursors_refuse_it_too",),
        seed=_send_everything,
    ),
    Mutant(
        "comments-not-nested",
        "a comment ends where a comment inside it ends",
        (GUARD,),
        seed=_end_comments_early,
    ),
    Mutant(
        "strings-not-continued",
        "a string that continues on the next line is read as two",
        (GUARD,),
        seed=_end_strings_early,
    ),
    Mutant(
        "escapes-unread",
        "a quote behind a backslash ends a string",
        (GUARD,),
        seed=_read_backslashes_as_text,
    ),
    Mutant(
        "drivers-values-quoted",
        "a driver's error quotes the value that it cannot read",
        (f"{SESSIONS}::test_values_in_an_error_of_the_driver_are_withheld",),
        seed=_quote_values,
    ),
]
