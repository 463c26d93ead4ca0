"""The tenants' transactions that are open on raw connections, one for each connection.

Two tasks or threads may use one connection at once. The first one's transaction is registered
before its BEGIN is sent: the second would otherwise become a savepoint of it, and set its own
tenant there.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from os import dup
from socket import SHUT_RDWR, socket
from typing import Final
from weakref import WeakKeyDictionary

import psycopg
from psycopg.pq import TransactionStatus

from temporal_tenancy.core.errors import NotAwaited, ScopeMissing, TenantMismatch
from temporal_tenancy.core.observations import ConnectionHeld, is_observed, observe, working
from temporal_tenancy.postgres.raw_session import RawConnection
from temporal_tenancy.postgres.unfinished import Unfinished


class Stage(StrEnum):
    """How far the block of a transaction is."""

    BEGINNING = "begins"  # the tenant is not set yet
    RUNNING = "runs"
    ENDING = "ends"  # is checked before its commit, or rolls back
    COMMITTING = "commits"  # nothing of the tenant is left


@dataclass(eq=False)
class OpenTransaction:
    """The open transaction of a raw connection."""

    tenant: str
    schema: str  # of the library's tables
    stage: Stage = Stage.BEGINNING
    role: str = ""  # the one that it began as
    began: str = ""  # on the server's clock, in seconds
    ends: float = math.inf  # when its time is up, on the monotonic clock, in seconds
    is_counted_here: bool = False  # whether the server does not limit it
    unfinished: Unfinished = field(default_factory=Unfinished)
    inside: list[object] = field(default_factory=list)  # the blocks inside, innermost last
    is_mixed: bool = False  # whether a block inside ended before one that it contains

    @contextmanager
    def running(self) -> Iterator[None]:
        """Lets other blocks join while the block runs."""
        self.stage = Stage.RUNNING
        try:
            yield
        finally:
            self.stage = Stage.ENDING

    @contextmanager
    def containing(self) -> Iterator[None]:
        """Runs a block that is a savepoint of this transaction.

        Raises `NotAwaited` if the transaction has ended before the block.
        """
        this = object()
        self.inside.append(this)
        try:
            yield
        finally:
            self.is_mixed |= self.inside[-1] is not this
            self.inside.remove(this)
        if self.stage is not Stage.RUNNING:
            raise overlapping()  # the driver itself leaves a closed connection's block in silence


_open: Final[WeakKeyDictionary[RawConnection, OpenTransaction]] = WeakKeyDictionary()
_lock: Final = threading.Lock()


def found(connection: RawConnection) -> OpenTransaction | None:
    """Returns the transaction that is open on `connection`; None: it is not a tenant's."""
    transaction = _open.get(connection)
    # What runs right after a commit is no longer in the transaction, such as Django's on_commit().
    if transaction is not None and transaction.stage is Stage.COMMITTING and _is_idle(connection):
        return None
    return transaction


def joined(connection: RawConnection, tenant: str) -> OpenTransaction | None:
    """Returns the transaction in which a block of `tenant` on `connection` is a savepoint.

    None: none is open, so that the block begins one.

    Raises:
        TenantMismatch: the open transaction belongs to another tenant.
        ScopeMissing: the open transaction was not begun for a tenant, or is not running.
    """
    transaction = found(connection)
    if transaction is None:
        _require_idle(connection, tenant)
        return None
    return require_running(connection, transaction, tenant)


@contextmanager
def claimed(
    connection: RawConnection, tenant: str, schema: str, *, is_inside: bool = False
) -> Iterator[OpenTransaction]:
    """Makes the transaction that the block begins on `connection` the one of `tenant`.

    If the block raises and leaves the connection in the transaction, the connection is cut: its
    next user would see the tenant's rows.

    Args:
        connection: the connection.
        tenant: the transaction's tenant.
        schema: the one that the library's tables are in.
        is_inside: whether the transaction is a savepoint of one that is nobody's, as in a test of
            Django's.

    Raises:
        ScopeMissing: another task or thread has begun a transaction meanwhile.
    """
    with _lock:
        if found(connection) is not None:
            raise _in_use(tenant)
        if not is_inside:
            _require_idle(connection, tenant)
        transaction = _open[connection] = OpenTransaction(tenant, schema)
    began = time.monotonic()
    try:
        yield transaction
    except BaseException:
        if not is_inside and _open.get(connection) is transaction and not _is_idle(connection):
            cut(connection)
        raise
    finally:
        with _lock:
            if _open.get(connection) is transaction:
                del _open[connection]
        if is_observed():
            work = working.get()
            job = None if work is None else work.job
            observe(ConnectionHeld("application", tenant, job, time.monotonic() - began))


def require_running(
    connection: RawConnection, transaction: OpenTransaction, tenant: str
) -> OpenTransaction:
    """Returns `transaction` if code of `tenant` may use it.

    Raises:
        TenantMismatch: it belongs to another tenant.
        ScopeMissing: SQL ended it; or it is beginning or ending, in another task or thread.
    """
    require_same(transaction.tenant, tenant)
    if transaction.stage is not Stage.RUNNING:
        raise _in_use(tenant)
    if _is_idle(connection):
        raise ended_by_sql(tenant)
    return transaction


def require_same(owner: str, tenant: str) -> None:
    """Raises `TenantMismatch` unless a transaction of `owner` is `tenant`'s."""
    if owner != tenant:
        raise TenantMismatch(
            f'this transaction belongs to tenant "{owner}", but the current scope is "{tenant}". '
            "Use another connection, inside the new scope."
        )


def ended_by_sql(tenant: str) -> ScopeMissing:
    """Returns the error for code after a COMMIT or a ROLLBACK that was sent as SQL."""
    return ScopeMissing(
        f"SQL in this block ended the transaction of tenant {tenant}, so nothing after it had a "
        "tenant. Leave the block to commit, and raise psycopg.Rollback to roll back."
    )


def overlapping() -> NotAwaited:
    """Returns the error for blocks on one connection of which one ends inside another."""
    return NotAwaited(
        "blocks of several tasks or threads overlap on this connection, so one of them would "
        "commit or roll back what the others wrote. All of it was rolled back. Give each task and "
        "thread its own connection, and wait for a block inside another one."
    )


def cut(connection: RawConnection) -> None:
    """Closes a connection at once, also one of a pool whose `close()` returns it to the pool."""
    if connection.info.transaction_status == TransactionStatus.ACTIVE:
        # Somebody may wait for an answer on this socket, which belongs to the driver.
        with suppress(OSError, psycopg.Error), socket(fileno=dup(connection.fileno())) as ours:
            ours.shutdown(SHUT_RDWR)
    else:
        connection.pgconn.finish()


def _require_idle(connection: RawConnection, tenant: str) -> None:
    if not _is_idle(connection):
        raise ScopeMissing(
            f"this connection is in a transaction that was not begun for tenant {tenant}. Commit "
            "it or roll it back first; a connection in autocommit mode begins none by itself."
        )


def _is_idle(connection: RawConnection) -> bool:
    return connection.info.transaction_status in (
        TransactionStatus.IDLE,
        TransactionStatus.UNKNOWN,  # closed
    )


def _in_use(tenant: str) -> ScopeMissing:
    return ScopeMissing(
        "another task or thread is beginning or ending a tenant's transaction on this connection, "
        f"so tenant {tenant} cannot use it. Give each task and thread its own connection."
    )
