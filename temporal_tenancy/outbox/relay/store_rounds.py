"""Visits the outboxes of stores in turn, with a few connections for however many there are.

Nothing listens in a store: its outbox is looked at every `RelayOptions.store_poll`. A look at an
outbox with nothing to do is one transaction of three statements. A store that cannot be reached is
tried again after a while, and longer each time. Stores whose server does not answer in time are
tried one at a time and by one visitor, so that the others keep visiting those that answer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy.exc import DBAPIError

from temporal_tenancy.core.errors import StoreMismatch
from temporal_tenancy.outbox.inspection import Backlog
from temporal_tenancy.outbox.relay._mark_writer import (
    LOCK_WAIT,
    RelayMarking,
    RelayMarks,
    write_marks,
)
from temporal_tenancy.outbox.relay.options import RelayOptions
from temporal_tenancy.outbox.relay.store_outbox import (
    Look,
    StoreOutbox,
    store_outbox_database,
    stores_with_outboxes,
    why_away,
)
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.postgres.database_errors import DatabaseProblem, LockHeld, StatementTimeout
from temporal_tenancy.postgres.database_urls import database_url
from temporal_tenancy.postgres.installation import Installation
from temporal_tenancy.postgres.secret_texts import hidden
from temporal_tenancy.postgres.sql_directory import DirectoryUnreadable
from temporal_tenancy.stores.errors import ConnectionSecretMissing
from temporal_tenancy.stores.secrets import RELAY, ConnectionSecrets, secret_name

LISTED_EVERY: Final = 5.0  # seconds between readings of which stores there are
SLOW: Final = 1.0  # seconds after which a failed visit says that the server is silent
# Seconds to wait after each failed visit in a row; the last repeats.
PAUSES: Final = (1.0, 2.0, 5.0, 10.0, 30.0)

# What says in its type alone why a store cannot be used.
_EXPECTED: Final = (DatabaseProblem, DBAPIError, ConnectionSecretMissing, StoreMismatch)

log: Final = logging.getLogger(__name__)


class ControlPlaneAway(Exception):
    """The control plane does not answer, so a store's messages cannot be decided on."""


class StoreMarks(RelayMarking):
    """The marks of one store's messages: written by its visits, and kept until they are."""

    def __init__(self) -> None:
        self.outbox: StoreOutbox | None = None  # of the visit
        self.pending = RelayMarks()

    async def written(self) -> None:
        """Writes the marks; those that cannot be written stay, and the error is raised."""
        if not self.pending:
            return
        assert self.outbox is not None
        marks, self.pending = self.pending, RelayMarks()
        try:
            await write_marks(self.outbox, marks, lock_wait=LOCK_WAIT)
        except BaseException:
            marks.add(self.pending)
            self.pending = marks
            raise

    def _add(self, tenant: str, marks: RelayMarks) -> None:
        self.pending.add(marks)


Work = Callable[[StoreOutbox, StoreMarks, Look], Awaitable[timedelta | None]]
"""Does what a look has found; returns when to look again, or None: after `store_poll`."""


@dataclass
class _Visited:
    """A store, and how its last visits went; times are on the monotonic clock."""

    name: str
    tenant_id: str
    secret: str
    due: float = 0.0  # the next visit
    is_visited: bool = False  # now
    failures: int = 0  # visits in a row
    is_slow: bool = False  # whether the last one took long to fail
    server: tuple[str | None, int | None] | None = None  # host and port, once known
    away_since: datetime | None = None  # aware
    why: str | None = None  # it cannot be reached
    look: Look = field(default_factory=Look)
    looked: float = 0.0
    marks: StoreMarks = field(default_factory=StoreMarks)


@dataclass(frozen=True)
class StoreView:
    """A store as a relay has last seen it."""

    name: str
    tenant_id: str
    backlog: Backlog | None  # None: not seen yet; of many messages the first are counted
    later: int  # messages of the backlog that are not due yet
    away_since: datetime | None  # aware; None: it answers
    why: str | None  # it cannot be reached


class StoreRounds:
    """The stores that a relay visits, and whose turn it is."""

    def __init__(
        self,
        control: Database,
        secrets: ConnectionSecrets | None,
        options: RelayOptions,
        work: Work,
        installation: Installation | None,
    ) -> None:
        """
        Args:
            control: with the control plane.
            secrets: has the stores' connections; None: no store can be reached.
            options: of the relay.
            work: does what a look at an outbox has found.
            installation: as for `Database`.
        """
        self._control = control
        self._secrets = secrets
        self._options = options
        self._work = work
        self._stores: dict[str, _Visited] = {}
        self._connections = _Connections(options.store_connections, installation)
        self._silent: dict[tuple[str | None, int | None], float] = {}  # until when, by server
        self._told_of_directory = False
        self._changed = asyncio.Event()
        self._stopping = asyncio.Event()

    def loops(self) -> Sequence[Coroutine[Any, Any, None]]:
        """Returns the work to do until `stop()`: one reads which stores there are."""
        return [
            self._list_loop(),
            *(self._visit_loop() for _ in range(self._options.store_connections)),
        ]

    def stop(self) -> None:
        """Ends the loops after the visits that run now."""
        self._stopping.set()
        self._changed.set()

    def cut(self) -> None:
        """Cuts the connections to all stores."""
        self._connections.cut()

    async def dispose(self) -> None:
        """Closes the connections to all stores."""
        await self._connections.dispose()

    def views(self) -> Sequence[StoreView]:
        """Returns each store as it was last seen; safe in any thread."""
        now, wall = time.monotonic(), datetime.now(UTC)
        return [_view(store, now, wall) for store in list(self._stores.values())]

    async def _list_loop(self) -> None:
        while not self._stopping.is_set():
            with suppress(DatabaseProblem, DBAPIError):  # the claim loop logs it
                await self._list()
            every = min(LISTED_EVERY, self._options.store_poll.total_seconds())
            with suppress(TimeoutError):
                async with asyncio.timeout(every):
                    await self._stopping.wait()

    async def _list(self) -> None:
        async with self._control.platform_session("list stores with an outbox") as session:
            rows = await stores_with_outboxes(session)
        there = {row.name: row for row in rows}
        for name, store in list(self._stores.items()):
            row = there.get(name)
            if (row is None or row.tenant_id != store.tenant_id) and not store.is_visited:
                del self._stores[name]
                await self._connections.close(name)
        for name, row in there.items():
            if name not in self._stores:
                self._stores[name] = _Visited(name, row.tenant_id, row.secret)
                self._changed.set()

    async def _visit_loop(self) -> None:
        while not self._stopping.is_set():
            store = self._next()
            if store is None:
                await self._until_due()
                continue
            store.is_visited = True
            try:
                await self._visit(store)
            finally:
                store.is_visited = False
                self._changed.set()

    def _next(self) -> _Visited | None:
        """Returns the due store that waits for longest; of silent ones only if none is tried."""
        self._changed.clear()
        now = time.monotonic()
        stores = self._stores.values()
        trying = any(store.is_visited and self._is_suspect(store) for store in stores)
        due = [
            store
            for store in stores
            if not store.is_visited
            and self._due(store) <= now
            and not (trying and self._is_suspect(store))
        ]
        return min(due, key=lambda store: store.due, default=None)

    def _is_suspect(self, store: _Visited) -> bool:
        return store.is_slow or store.server in self._silent

    def _due(self, store: _Visited) -> float:
        silent = self._silent.get(store.server, 0.0) if store.server is not None else 0.0
        return max(store.due, silent)

    async def _until_due(self) -> None:
        waiting = [self._due(store) for store in self._stores.values() if not store.is_visited]
        now = time.monotonic()
        # What is due and waits for another visit is woken by that visit's end.
        later = [due - now for due in waiting if due > now]
        with suppress(TimeoutError):
            async with asyncio.timeout(min(later) if later else None):
                await self._changed.wait()

    async def _visit(self, store: _Visited) -> None:
        began = time.monotonic()
        try:
            again = await self._look_and_work(store)
        except (LockHeld, StatementTimeout) as error:  # its own tenant's doing
            log.warning(
                "relay.store_locked",
                extra={"store": store.name, "error_type": type(error).__name__},
            )
            self._answered(store, self._options.store_poll)
        except ControlPlaneAway as away:  # the claim loop logs it
            self._tell_of_directory(away.__cause__)
            store.due = time.monotonic() + PAUSES[0]
        except Exception as error:  # whatever it is, it is this store's own
            await self._failed(store, error, time.monotonic() - began)
        else:
            self._answered(store, self._options.store_poll if again is None else again)

    async def _look_and_work(self, store: _Visited) -> timedelta | None:
        if self._secrets is None:
            raise ConnectionSecretMissing(
                f'this relay has no secret store, and the connection "{store.secret}" is in one.'
            )
        url = await self._secrets.url(secret_name(store.secret, RELAY))
        parsed = database_url(hidden(url))
        store.server = parsed.host, parsed.port
        database = await self._connections.of(store.name, url)
        outbox = StoreOutbox(store.name, store.tenant_id, database, self._control)
        store.marks.outbox = outbox
        try:
            await store.marks.written()  # of an earlier visit
            store.look = await outbox.look(keep=self._options.keep_completed)
            store.looked = time.monotonic()
            again = await self._work(outbox, store.marks, store.look)
            await store.marks.written()
            return again
        finally:
            self._connections.put_back(store.name)

    def _tell_of_directory(self, why: BaseException | None) -> None:
        """Logs once that the directory cannot be read.

        The claim loop asks it only about tenants with messages in the shared outbox.
        """
        if isinstance(why, DirectoryUnreadable) and not self._told_of_directory:
            self._told_of_directory = True
            log.error("relay.directory_unreadable", extra={"error": why.message})

    def _answered(self, store: _Visited, again: timedelta) -> None:
        if store.look.is_due:  # so the directory was asked
            self._told_of_directory = False
        if store.failures:
            log.info("relay.store_back", extra={"store": store.name})
        store.failures, store.is_slow, store.away_since, store.why = 0, False, None, None
        store.due = time.monotonic() + again.total_seconds()
        if store.server is not None and self._silent.pop(store.server, None) is not None:
            for other in self._stores.values():
                if other.server == store.server and other.failures:
                    other.due, other.is_slow = 0.0, False

    async def _failed(self, store: _Visited, error: Exception, took: float) -> None:
        if store.failures == 0:
            store.away_since = datetime.now(UTC)
            log.error(
                "relay.store_away",
                extra={"store": store.name, "error_type": type(error).__name__},
                exc_info=None if isinstance(error, _EXPECTED) else error,
            )
        now = time.monotonic()
        pause = PAUSES[min(store.failures, len(PAUSES) - 1)]
        store.failures += 1
        store.why = why_away(store.name, error)
        store.is_slow = took >= SLOW
        store.due = now + pause
        if store.is_slow and store.server is not None:
            self._silent[store.server] = now + pause
        await self._connections.close(store.name)


class _Connections:
    """The stores' databases that are open: one connection each, so as many as there may be."""

    def __init__(self, most: int, installation: Installation | None) -> None:
        self._most = most
        self._installation = installation
        self._open: OrderedDict[str, tuple[str, Database]] = OrderedDict()  # least recent first
        self._in_use: set[str] = set()

    async def of(self, name: str, url: str) -> Database:
        """Returns the store's database until `put_back()`, and closes another one if needed."""
        known = self._open.get(name)
        if known is not None and known[0] != url:
            await self.close(name)
            known = None
        self._in_use.add(name)
        # Counted before any waiting, or two visits at once would both find room.
        while len(self._in_use | self._open.keys()) > self._most:
            idle = next((other for other in self._open if other not in self._in_use), None)
            if idle is None:
                break
            await self.close(idle)  # meanwhile another visit may begin with one that was idle
        if known is None:
            known = url, store_outbox_database(url, self._installation)
            self._open[name] = known
        self._open.move_to_end(name)
        return known[1]

    def put_back(self, name: str) -> None:
        """Says that the visit has ended."""
        self._in_use.discard(name)

    async def close(self, name: str) -> None:
        """Closes the connection to a store, if there is one."""
        known = self._open.pop(name, None)
        if known is not None:
            try:
                await known[1].dispose()
            except Exception:  # it is lost either way
                log.exception("relay.store_not_closed", extra={"store": name})

    def cut(self) -> None:
        """Cuts all connections."""
        for _, database in self._open.values():
            database.cut()

    async def dispose(self) -> None:
        """Closes all connections."""
        for name in list(self._open):
            await self.close(name)


def _view(store: _Visited, now: float, wall: datetime) -> StoreView:
    backlog = None
    look = store.look
    if store.looked:
        due_since = None
        if look.due_for is not None:
            due_since = wall - timedelta(seconds=look.due_for + now - store.looked)
        backlog = Backlog(
            store.tenant_id, look.due + look.later, look.retry, look.processing, due_since
        )
    return StoreView(store.name, store.tenant_id, backlog, look.later, store.away_since, store.why)
