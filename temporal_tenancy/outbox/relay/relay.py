"""The relay: claims messages, starts their workflows, and marks the outcomes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final
from uuid import uuid4

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio.client import Client
from temporalio.service import RPCError

from temporal_tenancy.core.directory import CachedDirectory, Tenant
from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.identifiers import PLATFORM, WorkflowId
from temporal_tenancy.core.jobs import Job, registry
from temporal_tenancy.core.observations import (
    Claimed,
    StartOutcome,
    StartTried,
    is_observed,
    observe,
)
from temporal_tenancy.core.payloads import UNKNOWN
from temporal_tenancy.core.tasks import end_tasks
from temporal_tenancy.dead_letters.alerts import AlertSink
from temporal_tenancy.outbox.marks import failed
from temporal_tenancy.outbox.relay import admission, queue
from temporal_tenancy.outbox.relay._age import alert_on_old_messages
from temporal_tenancy.outbox.relay._listening import listen
from temporal_tenancy.outbox.relay._mark_writer import LOCK_WAIT, MarkWriter, RelayMarking
from temporal_tenancy.outbox.relay._quarantine import Quarantine
from temporal_tenancy.outbox.relay._upkeep import Upkeep
from temporal_tenancy.outbox.relay.connections import relay_database
from temporal_tenancy.outbox.relay.messages import Failed, Message, Unit
from temporal_tenancy.outbox.relay.options import RelayOptions
from temporal_tenancy.outbox.relay.starting import (
    RPC_TIMEOUT,
    Deliver,
    ServerAway,
    job_of_message,
    start_unit,
)
from temporal_tenancy.outbox.relay.store_outbox import Look, Messages, StoreOutbox
from temporal_tenancy.outbox.relay.store_rounds import (
    ControlPlaneAway,
    StoreMarks,
    StoreRounds,
    StoreView,
)
from temporal_tenancy.postgres.control_session import control_session
from temporal_tenancy.postgres.database_errors import (
    ROW_ERRORS,
    DatabaseProblem,
    LockHeld,
    is_of_a_row,
    kind_of,
)
from temporal_tenancy.postgres.database_urls import database_url
from temporal_tenancy.postgres.installation import Installation
from temporal_tenancy.postgres.secret_texts import hidden
from temporal_tenancy.postgres.sql_directory import DirectoryUnreadable
from temporal_tenancy.sdk.plugin import TenancyPluginBase
from temporal_tenancy.sdk.search_attributes import (
    SearchAttributesMissing,
    require_search_attributes,
)
from temporal_tenancy.stores.secrets import ConnectionSecrets

TENANTS_AT_ONCE: Final = 64  # tenants per claim
ONE_BY_ONE: Final = 4  # messages per claim of a tenant whose rows failed an earlier claim
LONGEST_CLAIM: Final = 4  # times the limit, for a tenant whose own claims keep failing
SLOW_LOOK: Final = 10.0  # seconds between searches for the tenants that make claims slow
DUTIES_END: Final = 3.0  # seconds for what upkeep does as the relay stops; then it is cancelled
CUT_FAILS: Final = 1.0  # seconds for tasks to fail after their connections were cut
CUT_ENDS: Final = 5.0  # seconds for the rest to end once they are cancelled

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Claimed:
    """The result of a claim."""

    units: Sequence[Unit]  # to start
    refused: Sequence[Failed]  # messages that can never start
    seconds: float  # the duration of its statements

    def __len__(self) -> int:
        return len(self.units) + len(self.refused)

    @property
    def has_unreadable(self) -> bool:
        """Whether the database could not write one of the payloads as text."""
        messages = [message for unit in self.units for message in unit.messages]
        messages += [failure.message for failure in self.refused]
        return any(message.payload == UNKNOWN for message in messages)


@dataclass(frozen=True)
class _Tasks:
    """The tasks that a relay runs."""

    claiming: Sequence[asyncio.Task[None]]
    duties: Sequence[asyncio.Task[None]]
    listening: Sequence[asyncio.Task[None]]
    marking: Sequence[asyncio.Task[None]]

    @property
    def all(self) -> Sequence[asyncio.Task[None]]:
        return (*self.claiming, *self.duties, *self.listening, *self.marking)


class Relay:
    """Turns the outbox messages of all tenants into workflows; tenants take turns.

    Several relays may run at once. If one dies, another claims its messages after the lease.
    """

    def __init__(
        self,
        client: Client,
        url: str,
        *,
        options: RelayOptions | None = None,
        alerts: Sequence[AlertSink] = (),
        deliver: Deliver = start_unit,
        installation: Installation | None = None,
        listen_url: str | None = None,
        stores: ConnectionSecrets | None = None,
    ) -> None:
        """
        Args:
            client: a client with the tenancy plugin, whose directory has the tenants.
            url: the database's URL for the role `tenancy_relay`. `run()` closes the connections.
            options: sizes and timings.
            alerts: where to send alerts about messages that wait for too long, besides the log.
            deliver: what to do with each unit; measurements replace it.
            installation: where the library's tables are, as for `Database`.
            listen_url: the same role's URL that names the server itself, where `url` names a
                pooler in transaction mode, which forwards no notifications; None: `url` does.
            stores: has the connections of tenants' own databases, whose outboxes the relay visits;
                None: the messages of such tenants wait.

        Raises:
            ConfigurationError: the client's plugin has no directory, or a URL is not a PostgreSQL
                URL.
        """
        url, listen_url = hidden(url), hidden(listen_url)
        self._client = client
        self._directory = _directory_of(client)
        self._database = relay_database(url, installation)
        self._listen_url = url if listen_url is None else listen_url
        database_url(self._listen_url)
        self._options = options or RelayOptions()
        self._deliver = deliver
        self._alerts = alerts
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._starts = asyncio.Semaphore(self._options.starts)
        self._in_hand = 0  # claimed messages that are not started yet
        self._room = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._after = ""  # the last tenant of the last claim
        # Units and refusals of this lap over all tenants; None between laps.
        self._lap_claimed: int | None = None
        self._quarantine = Quarantine(self._options.quarantine)
        self._slow_look = 0.0  # when a slow claim next quarantines its tenants, monotonic
        self._away = 0  # starts in a row that Temporal did not answer
        self._marks = MarkWriter(self._database)
        self._upkeep = Upkeep(client, self._database, self._options)
        self._stores = StoreRounds(
            self._database, stores, self._options, self._work_off_store, installation
        )
        self._careful: dict[str, float] = {}  # tenants in stores whose claims failed, until when
        self.task_queue: Final = "outbox"  # its name in the process's health report
        self.is_running = False  # whether the last claim succeeded
        self.is_shutdown = False
        self._has_run = asyncio.Event()

    def stop(self) -> None:
        """Tells `run()` to stop claiming, start what is in hand, and return."""
        self._stopping.set()
        self._wake.set()
        self._room.set()
        self._quarantine.wake()
        self._stores.stop()

    def store_views(self) -> Sequence[StoreView]:
        """Returns the tenants' own databases as the relay has last seen their outboxes."""
        return self._stores.views()

    async def until_running(self) -> None:
        """Waits until the first claim has succeeded."""
        await self._has_run.wait()

    async def run(self) -> None:
        """Runs until `stop()`; returns once nothing is in hand and all connections are closed.

        If stopping takes longer than `RelayOptions.stop_within`, it cuts the connections and
        returns; a relay finds what was in hand after the leases. An exception that ends one of the
        relay's tasks ends the relay and is raised.

        Raises:
            SearchAttributesMissing: the client's namespace lacks a search attribute that every run
                has; no message was claimed.
        """
        try:
            await self._require_search_attributes()
            await self._work()
        finally:
            self.is_running = False
            self.is_shutdown = True
            await self._stores.dispose()
            await self._database.dispose()

    async def _require_search_attributes(self) -> None:
        try:
            async with asyncio.timeout(RPC_TIMEOUT.total_seconds()):
                await require_search_attributes(self._client)
        except SearchAttributesMissing as error:
            sentence = f'{error} "tenancy schedules apply" does so.'
            raise SearchAttributesMissing(sentence) from None
        except (RPCError, TimeoutError) as error:  # while it does not answer, messages are held
            log.warning("relay.temporal_away", extra={"error": str(error) or "no answer"})

    async def _work(self) -> None:
        """Runs the relay's tasks until `stop()` or until one of them fails, then ends them."""
        duties = (
            *(
                self._upkeep_loop(duty)
                for duty in (self._start_lost, self._free_ended_slots, self._upkeep.prune)
            ),
            self._age_loop(),
        )
        listening = (listen(self._listen_url, self._wake),) if self._options.listens else ()
        tasks = _Tasks(
            claiming=_begun(self._claim_loop(), self._quarantine_loop(), *self._stores.loops()),
            duties=_begun(*duties),
            listening=_begun(*listening),
            marking=_begun(self._marks.run()),
        )
        try:
            ended, _ = await asyncio.wait(tasks.all, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                task.result()
        finally:
            self.stop()
            finishing = asyncio.create_task(self._finish(tasks))
            try:
                await asyncio.wait((finishing,), timeout=self._options.stop_within.total_seconds())
            finally:
                if not finishing.done():
                    await self._cut(finishing, *tasks.all, *self._tasks)
        for task in (finishing, *tasks.claiming, *tasks.marking):
            if task.done() and not task.cancelled():
                task.result()

    async def _finish(self, tasks: _Tasks) -> None:
        """Starts what is in hand, and writes the marks.

        Waits for connections in use rather than cancelling them: psycopg then waits for the server
        too, and may lose the cancellation.
        """
        await asyncio.wait(tasks.claiming)
        while self._tasks:
            await asyncio.wait(self._tasks)
        await asyncio.wait(tasks.duties, timeout=DUTIES_END)
        await end_tasks(*tasks.duties, *tasks.listening)
        self._marks.finish()
        await asyncio.wait(tasks.marking)

    async def _cut(self, *tasks: asyncio.Task[None]) -> None:
        """Cuts the connections, so that what waits for the database fails, and ends `tasks`."""
        log.error("relay.cut", extra={"in_hand": self._in_hand})
        self._database.cut()
        self._stores.cut()
        # What waits for the database fails by itself. Cancelled, it would ask the server to cancel.
        await asyncio.wait(tasks, timeout=CUT_FAILS)
        left = await end_tasks(*tasks, within=CUT_ENDS)
        if left:
            log.error("relay.tasks_abandoned", extra={"tasks": len(left)})

    async def _claim_loop(self) -> None:
        failures, unreadable = 0, False
        while not self._stopping.is_set():
            try:
                await self._wait_for_room()
                await self._claim()
                self.is_running, failures = True, 0
                self._has_run.set()
            except DirectoryUnreadable as error:
                if failures == 0 or not unreadable:
                    log.error("relay.directory_unreadable", extra={"error": error.message})
                self.is_running, unreadable = False, True
                failures += 1
                await self._pause_while_away(failures)
            except (DatabaseProblem, DBAPIError) as error:
                if failures == 0 or unreadable:
                    log.warning("relay.database_away", extra={"error_type": type(error).__name__})
                self.is_running, unreadable = False, False
                failures += 1
                await self._pause_while_away(failures)

    async def _wait_for_room(self) -> None:
        while not self._stopping.is_set() and self._in_hand >= self._options.batch:
            self._room.clear()
            await self._room.wait()
        if self._away and not self._stopping.is_set() and self._in_hand == 0:
            # Small claims, with pauses between them, find out whether Temporal is back.
            await self._pause_while_away(self._away)

    async def _idle(self) -> None:
        try:
            async with asyncio.timeout(self._options.poll.total_seconds()):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _pause_while_away(self, times: int) -> None:
        """Waits after a server has not answered `times` in a row."""
        pauses = self._options.away
        await self._pause(pauses[min(times, len(pauses)) - 1])

    async def _pause(self, time: timedelta) -> None:
        """Waits for `time`, or until `stop()`."""
        try:
            async with asyncio.timeout(time.total_seconds()):
                await self._stopping.wait()
        except TimeoutError:
            pass

    async def _claim(self) -> None:
        """Claims messages of the next tenants; waits after a lap that found nothing."""
        if self._stopping.is_set():
            return
        if self._lap_claimed is None:
            self._wake.clear()  # before the lap, so that later messages start another one
            self._lap_claimed = 0
        async with self._database.platform_session("relay messages") as session:
            tenants = await queue.waiting_tenants(session, after=self._after, limit=TENANTS_AT_ONCE)
            wraps = len(tenants) < TENANTS_AT_ONCE
            if wraps and self._after:
                # Fill up, or the tenants at the end of the alphabet would get larger shares.
                more = TENANTS_AT_ONCE - len(tenants)
                first = await queue.waiting_tenants(session, after="", limit=more)
                tenants += [tenant for tenant in first if tenant not in tenants]
        if tenants:
            self._lap_claimed += await self._claim_for(tenants)
            self._after = tenants[-1]
        if wraps:
            found, self._lap_claimed = self._lap_claimed, None
            if found == 0:
                await self._idle()

    async def _claim_for(self, tenants: Sequence[str]) -> int:
        """Claims these tenants' messages and starts them; returns how many units and refusals.

        If the claim fails or is slow, its tenants are quarantined: each is tried alone, and stays
        in quarantine only if its own claim fails or is slow.
        """
        room = len(tenants) if self._away else self._options.batch
        partial = len(tenants) == TENANTS_AT_ONCE
        together = []
        for tenant in await self._without_backlog(tenants):
            if tenant in self._quarantine:
                self._quarantine.ask(tenant)
            else:
                together.append(tenant)
        if not together:
            return 0
        limit = self._options.claim_limit
        try:
            claimed = await self._claim_messages(together, room=room, partial=partial, limit=limit)
        except ROW_ERRORS as error:
            if not is_of_a_row(error):
                raise
            log.warning("relay.claim_failed", extra={"error_type": kind_of(error)})
            self._quarantine.suspect(together)
            return 0
        if self._is_slow(claimed) and self._slow_look <= time.monotonic():
            log.warning("relay.claim_slow", extra={"seconds": round(claimed.seconds, 3)})
            self._quarantine.suspect(together)
            self._slow_look = time.monotonic() + SLOW_LOOK
        self._start_all(claimed)
        return len(claimed)

    async def _without_backlog(self, tenants: Sequence[str]) -> Sequence[str]:
        """Returns the tenants without too many unwritten marks, which would fill the memory.

        A tenant's own locks keep its marks unwritten, and its messages wait until they are gone.
        """
        limit = self._options.batch
        if any(self._marks.gathered(tenant) >= limit for tenant in tenants):
            await self._marks.written()  # or the tenant's marks are quarantined
        return [tenant for tenant in tenants if self._marks.unwritten(tenant) < limit]

    def _is_slow(self, claimed: _Claimed) -> bool:
        return claimed.seconds > self._options.claim_limit.total_seconds() / 2

    async def _quarantine_loop(self) -> None:
        """Claims messages of quarantined tenants, one tenant after another, until `stop()`."""
        while not self._stopping.is_set():
            tenant = self._quarantine.next()
            if tenant is None:
                await self._quarantine.changed()
                continue
            await self._wait_for_room()
            if self._stopping.is_set():
                return
            try:
                await self._claim_quarantined(tenant)
            except (DatabaseProblem, DBAPIError):  # the claim loop logs it
                self._quarantine.rest(tenant)
                await self._pause_while_away(1)

    async def _claim_quarantined(self, tenant: str) -> None:
        if not await self._without_backlog([tenant]):
            self._quarantine.rest(tenant)
            return
        careful = self._quarantine.is_careful(tenant)
        share = max(1, self._options.batch // len(self._quarantine))
        room = 1 if self._away else ONE_BY_ONE if careful else share
        # The limit grows, so that a claim that is always slow (a table without VACUUM) can succeed.
        failures = self._quarantine.failures(tenant)
        limit = self._options.claim_limit * min(2**failures, LONGEST_CLAIM)
        try:
            claimed = await self._claim_messages(
                [tenant], room=room, partial=False, limit=limit, one_by_one=careful
            )
        except ROW_ERRORS as error:
            if not is_of_a_row(error):
                raise
            self._quarantine.failed(tenant)
            kind = kind_of(error)
            log.error(
                "relay.tenant_failed_a_claim", extra={"tenant_id": tenant, "error_type": kind}
            )
            return
        self._start_all(claimed)
        troubled = claimed.has_unreadable or self._is_slow(claimed)
        self._quarantine.passed(tenant, found=bool(claimed), troubled=troubled)
        if tenant not in self._quarantine:
            self._wake.set()  # the claim loop claims its other messages

    async def _claim_messages(
        self,
        tenants: Sequence[str],
        *,
        room: int,
        partial: bool,
        limit: timedelta,
        one_by_one: bool = False,
    ) -> _Claimed:
        records = {tenant.id: tenant for tenant in await self._records(tenants)}
        async with self._database.platform_session(
            "relay messages", statement_timeout=limit
        ) as session:
            await session.connection()  # a wait for one is no time of the claim's
            began = time.monotonic()
            allowed = await admission.allowances(
                session, tenants, records, room=room, partial=partial
            )
            units, refused, found = await self._take(
                session, allowed, records, one_by_one=one_by_one
            )
            await self._record_starts(session, units)
            seconds = time.monotonic() - began
        observe(Claimed(found, seconds))
        return _Claimed(units, refused, seconds)

    async def _take(
        self,
        session: AsyncSession,
        allowed: Mapping[str, admission.Allowance],
        records: dict[str, Tenant],
        *,
        one_by_one: bool,
    ) -> tuple[list[Unit], list[Failed], int]:
        """Claims what is allowed; returns units, refusals, and the messages that were found."""
        quotas = {
            tenant: allowance.quota
            for tenant, allowance in allowed.items()
            if allowance.only is None
        }
        job_quotas = {
            (tenant, job): allowance.quota
            for tenant, allowance in allowed.items()
            for job in allowance.only or ()
        }
        lease = self._options.lease
        claimed = await queue.claim(session, quotas, lease=lease, one_by_one=one_by_one)
        claimed += await queue.claim_more(session, job_quotas, lease=lease, one_by_one=one_by_one)
        units, refused = self._sort(claimed, records)
        if not one_by_one:
            units, more_refused = await self._fill(session, units, records)
            refused += more_refused
        units = [replace(unit, holds_slot=allowed[unit.tenant_id].capped) for unit in units]
        return units, refused, len(claimed)

    async def _record_starts(self, session: AsyncSession, units: Sequence[Unit]) -> None:
        """Records the slots and the messages of workflows that are about to start."""
        with_slots = [unit for unit in units if unit.holds_slot]
        if with_slots:
            owners = {unit.tenant_id for unit in with_slots}
            async with control_session(session, "take slots", owners=owners) as control:
                await queue.take_slots(control, with_slots)
        together = [unit for unit in units if unit.coalesced]
        await queue.hand_over(session, together, lease=self._options.lease)

    async def _records(self, tenants: Sequence[str]) -> list[Tenant]:
        found = await asyncio.gather(*map(self._record, tenants))
        return [tenant for tenant in found if tenant is not None]

    async def _record(self, tenant: str) -> Tenant | None:
        # The platform's own messages are probes; no directory knows their owner.
        return None if tenant == PLATFORM else await self._directory.find(tenant)

    def _sort(
        self, messages: Iterable[Message], records: dict[str, Tenant]
    ) -> tuple[list[Unit], list[Failed]]:
        """Returns units, with coalesced messages combined, and messages that can never start."""
        units: list[Unit] = []
        refused: list[Failed] = []
        together: dict[tuple[str, str], list[Message]] = defaultdict(list)
        for message in messages:
            try:
                job, input = job_of_message(message, records.get(message.tenant_id))
                alone = Unit(str(message.own_id), [message], input=input)
            except Exception as error:  # any error here is this message's own
                refused.append(failed(message, error, self._options.ladder))
                continue
            if job.coalesce is None:
                units.append(alone)
            else:
                together[message.tenant_id, message.job].append(message)
        for (_, name), coalesced in together.items():
            units += _batches(registry.get_or_raise(name), coalesced)
        return units, refused

    async def _fill(
        self, session: AsyncSession, units: list[Unit], records: dict[str, Tenant]
    ) -> tuple[list[Unit], list[Failed]]:
        """Fills up units with other waiting messages of the same tenant and job."""
        short = {
            (unit.tenant_id, unit.messages[0].job): unit
            for unit in units
            if unit.coalesced and len(unit.messages) < _limit(unit)
        }
        wanted = {key: _limit(unit) - len(unit.messages) for key, unit in short.items()}
        more, refused = self._sort(
            await queue.claim_more(session, wanted, lease=self._options.lease), records
        )
        for added in more:
            key = added.tenant_id, added.messages[0].job
            filled = replace(short[key], messages=[*short[key].messages, *added.messages])
            units[units.index(short[key])] = short[key] = filled
        return units, refused

    def _start_all(self, claimed: _Claimed) -> None:
        """Starts units in the background, with tenants taking turns, and marks the refusals."""
        self._marks.failed(claimed.refused)
        claimed_at = time.monotonic()
        for unit in _in_turn(claimed.units):
            self._in_hand += len(unit.messages)
            task = asyncio.create_task(self._start_in_hand(unit, claimed_at))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _start_in_hand(self, unit: Unit, claimed_at: float) -> None:
        """Starts a unit that is counted among the claimed messages."""
        try:
            await self._start(unit, claimed_at, self._marks)
        finally:
            self._in_hand -= len(unit.messages)
            if self._in_hand < self._options.batch:
                self._room.set()

    async def _start(self, unit: Unit, claimed_at: float, marks: RelayMarking) -> None:
        outcome: StartOutcome = "released"
        async with self._starts:
            try:
                if time.monotonic() - claimed_at > self._options.lease.total_seconds() / 2:
                    # After the lease another relay could claim the unit while this one starts it.
                    marks.released(unit)
                    return
                started = await self._deliver(self._client, unit, self._options.ladder)
                self._away = 0
                # A workflow started before may have ended, and then nothing else frees its slot.
                may_have_ended = unit.holds_slot and started is False
                frees = may_have_ended and await self._upkeep.frees(unit.workflow_id)
                marks.started(unit, frees_slot=frees)
                outcome = "already" if started is False else "started"
            except ServerAway as error:
                if self._away == 0:
                    log.warning("relay.temporal_away", extra={"error": str(error)})
                self._away += 1
                marks.released(unit)
                outcome = "away"
            except (DatabaseProblem, DBAPIError):  # the directory's; the claim loop logs it
                marks.released(unit)
            except Exception as error:  # any other error is these messages' own
                ladder = self._options.ladder
                failures = [failed(message, error, ladder) for message in unit.messages]
                marks.not_started(unit, failures)
                outcome = "dead" if any(each.is_dead for each in failures) else "retried"
            finally:
                if is_observed():
                    observe(_start_tried(unit, outcome, time.monotonic() - claimed_at))

    async def _upkeep_loop(self, duty: Callable[[], Awaitable[None]]) -> None:
        """Repeats one duty in its own task, so that no duty delays or ends another."""
        while not self._stopping.is_set():
            try:
                await duty()
            except (DatabaseProblem, DBAPIError) as error:
                log.warning("relay.upkeep_failed", extra={"error_type": type(error).__name__})
            except Exception:  # a failing duty must not stop the relay
                log.exception("relay.upkeep_failed")
            await self._pause(self._options.upkeep)

    async def _start_lost(self) -> None:
        limit = self._options.batch
        lost = self._upkeep.lost(lambda t: self._marks.unwritten(t) >= limit)
        async with aclosing(lost):
            async for message in lost:
                try:
                    await self._start_alone(message)
                except LockHeld:  # its new lease will expire, and then it is found again
                    log.warning("message.locked", extra={"tenant_id": message.tenant_id})
                if self._stopping.is_set():
                    return

    async def _free_ended_slots(self) -> None:
        if await self._upkeep.free_ended_slots():
            self._wake.set()

    async def _age_loop(self) -> None:
        while True:
            await self._pause(self._options.age_look)
            if self._stopping.is_set():
                return
            try:
                seen = [view.backlog for view in self.store_views() if view.backlog is not None]
                await alert_on_old_messages(self._database, self._directory, self._alerts, seen)
            except (DatabaseProblem, DBAPIError) as error:
                log.warning("relay.upkeep_failed", extra={"error_type": type(error).__name__})
            except Exception:
                log.exception("relay.upkeep_failed")

    async def _start_alone(self, message: Message) -> None:
        """Starts a lost message, and writes its mark before the next one is claimed."""

        async def start(unit: Unit) -> None:
            self._in_hand += 1
            await self._start_in_hand(unit, time.monotonic())

        await self._start_recovered(message, self._database, self._marks, start)

    async def _start_recovered(
        self,
        message: Message,
        database: Messages,
        marks: RelayMarking,
        start: Callable[[Unit], Awaitable[None]],
    ) -> None:
        tenant = await self._record(message.tenant_id)
        job = registry.get(message.job)
        async with self._database.platform_session("relay messages") as session:
            decided = await admission.decisions(session, [message.tenant_id])
        decision = decided.get(message.tenant_id, admission.NOTHING)
        if admission.held_back(tenant, decision, job) is not None:
            marks.released(Unit(message.letter_id, [message]))
            await marks.written()
            return
        units, refused = self._sort([message], {} if tenant is None else {tenant.id: tenant})
        marks.failed(refused)
        for recovered in units:
            async with database.platform_session(
                "relay messages", lock_timeout=LOCK_WAIT
            ) as session:
                cap = admission.cap_of(tenant, decision)
                unit = replace(recovered, holds_slot=cap is not None)  # admitted by its claim
                await self._record_starts(session, [unit])
            await start(unit)
        await marks.written()

    async def _work_off_store(
        self, outbox: StoreOutbox, marks: StoreMarks, look: Look
    ) -> timedelta | None:
        """Does what a look at a store's outbox has found; returns when to look again."""
        if look.is_old:
            await Upkeep(self._client, outbox, self._options).prune()
        if look.is_lost:
            await self._start_lost_in_store(outbox, marks)
        if not look.is_due or self._stopping.is_set():
            return None
        found = await self._claim_in_store(outbox, marks)
        if self._away:
            pauses = self._options.away
            return pauses[min(self._away, len(pauses)) - 1]
        return timedelta(0) if found else None

    async def _start_lost_in_store(self, outbox: StoreOutbox, marks: StoreMarks) -> None:
        async def start(unit: Unit) -> None:
            await self._start(unit, time.monotonic(), marks)

        lost = Upkeep(self._client, outbox, self._options).lost(lambda t: t != outbox.tenant_id)
        async with aclosing(lost):
            async for message in lost:
                await self._start_recovered(message, outbox, marks, start)
                if self._stopping.is_set():
                    return

    async def _claim_in_store(self, outbox: StoreOutbox, marks: StoreMarks) -> int:
        """Claims messages of a store's tenant, starts them and writes the marks.

        Returns how many were found. The control plane is asked before the claim and after it, so
        that no transaction of it waits for a store.
        """
        tenant = outbox.tenant_id
        careful = self._careful.get(tenant, 0.0) > time.monotonic()
        room = max(1, self._options.batch // (2 * self._options.store_connections))
        room = 1 if self._away else min(room, ONE_BY_ONE) if careful else room
        with _control_plane():
            record = await self._record(tenant)
            records = {} if record is None else {tenant: record}
            async with self._database.platform_session("relay messages") as control:
                allowed = await admission.allowances(
                    control, [tenant], records, room=room, partial=False
                )
        if not allowed:
            return 0
        try:
            async with outbox.platform_session(
                "relay messages", statement_timeout=self._options.claim_limit
            ) as session:
                began = time.monotonic()
                units, refused, found = await self._take(
                    session, allowed, records, one_by_one=careful
                )
                together = [unit for unit in units if unit.coalesced]
                await queue.hand_over(session, together, lease=self._options.lease)
                seconds = time.monotonic() - began
        except ROW_ERRORS as error:
            if not is_of_a_row(error):
                raise
            self._careful[tenant] = time.monotonic() + self._options.quarantine.total_seconds()
            log.error(
                "relay.tenant_failed_a_claim",
                extra={"tenant_id": tenant, "error_type": kind_of(error)},
            )
            return 0
        observe(Claimed(found, seconds))
        marks.failed(refused)
        admitted = await self._with_slots(units, records, marks)
        claimed_at = time.monotonic()
        await asyncio.gather(*(self._start(unit, claimed_at, marks) for unit in admitted))
        await marks.written()
        return found

    async def _with_slots(
        self, units: Sequence[Unit], records: dict[str, Tenant], marks: StoreMarks
    ) -> Sequence[Unit]:
        """Takes the slots of one tenant's units; releases those for which none is free any more."""
        capped = [unit for unit in units if unit.holds_slot]
        if not capped:
            return units
        tenant = capped[0].tenant_id
        try:
            with _control_plane():
                async with self._database.platform_session("relay messages") as control:
                    allowed = await admission.allowances(
                        control, [tenant], records, room=len(capped), partial=False
                    )
                    quota = allowed[tenant].quota if tenant in allowed else 0
                    await queue.take_slots(control, capped[:quota])
        except BaseException:
            for unit in units:
                marks.released(replace(unit, holds_slot=False))
            raise
        for unit in capped[quota:]:
            marks.released(replace(unit, holds_slot=False))
        return capped[:quota]


@contextmanager
def _control_plane() -> Iterator[None]:
    """Raises `ControlPlaneAway` if the control plane does not answer what is asked in the block."""
    try:
        yield
    except (DatabaseProblem, DBAPIError) as error:
        raise ControlPlaneAway from error


def _directory_of(client: Client) -> CachedDirectory:
    """Returns the plugin's directory; its cache also serves the checks of the client's starts."""
    for plugin in client.config()["plugins"]:
        if isinstance(plugin, TenancyPluginBase) and plugin.directory is not None:
            return plugin.directory
    raise ConfigurationError(
        "this relay's client knows no tenants. Connect it with a directory: "
        "Client.connect(..., plugins=[TenancyPlugin(directory=...)])."
    )


def _begun(*work: Coroutine[Any, Any, None]) -> Sequence[asyncio.Task[None]]:
    return [asyncio.create_task(each) for each in work]


def _batches(job: Job, messages: Sequence[Message]) -> list[Unit]:
    """Returns the units of a coalescing job's messages; all but the last are full."""
    assert job.coalesce is not None
    limit = job.coalesce.in_workflow
    batches = (messages[first : first + limit] for first in range(0, len(messages), limit))
    # Each try gets a new id: if an earlier start succeeded despite an error, its workflow finds
    # that the messages are no longer its own.
    return [
        Unit(
            str(WorkflowId(batch[0].tenant_id, job.name, f"messages-{uuid4()}")),
            batch,
            coalesced=True,
        )
        for batch in batches
    ]


def _limit(unit: Unit) -> int:
    coalesce = registry.get_or_raise(unit.messages[0].job).coalesce
    return 1 if coalesce is None else coalesce.in_workflow


def _start_tried(unit: Unit, outcome: StartOutcome, in_hand: float) -> StartTried:
    """Returns what observers are told; `in_hand` is in seconds since the claim."""
    first_tries = [
        message.due_for
        for message in unit.messages
        if message.attempts == 1 and message.due_for is not None
    ]
    lag = max(first_tries) + in_hand if first_tries else None
    return StartTried(unit.messages[0].job, outcome, lag)


def _in_turn(units: Iterable[Unit]) -> list[Unit]:
    """Returns units with tenants taking turns, and each tenant's own units in order."""
    turns: dict[str, int] = defaultdict(int)
    ranked: list[tuple[int, Unit]] = []
    for unit in units:
        ranked.append((turns[unit.tenant_id], unit))
        turns[unit.tenant_id] += 1
    return [unit for _, unit in sorted(ranked, key=lambda item: item[0])]
