"""The relay: claims messages, starts their workflows, and marks what became of them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final
from uuid import uuid4

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio.client import Client

from temporal_tenancy.core.directory import CachedDirectory, Tenant
from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.identifiers import WorkflowId
from temporal_tenancy.core.jobs import Job, registry
from temporal_tenancy.core.payloads import UNKNOWN
from temporal_tenancy.dead_letters.alerts import AlertSink
from temporal_tenancy.outbox.marks import failed
from temporal_tenancy.outbox.relay import admission, queue
from temporal_tenancy.outbox.relay.age import tell_of_old_messages
from temporal_tenancy.outbox.relay.apart import Apart
from temporal_tenancy.outbox.relay.connections import relay_database
from temporal_tenancy.outbox.relay.listening import listen
from temporal_tenancy.outbox.relay.marks import LOCK_WAIT, MarkWriter
from temporal_tenancy.outbox.relay.messages import Failed, Message, Unit
from temporal_tenancy.outbox.relay.options import RelayOptions
from temporal_tenancy.outbox.relay.starting import Deliver, ServerAway, job_of_message, start_unit
from temporal_tenancy.outbox.relay.upkeep import Upkeep
from temporal_tenancy.postgres.database_errors import (
    ROW_ERRORS,
    DatabaseProblem,
    LockHeld,
    is_of_a_row,
    kind_of,
)
from temporal_tenancy.sdk.plugin import TenancyPluginBase

TENANTS_AT_ONCE: Final = 64  # looked at in one claim
ONE_BY_ONE: Final = 4  # messages in a claim of a tenant whose rows have failed one before
LONGEST_CLAIM: Final = 4  # times the limit, of a tenant that fails alone again and again
SLOW_LOOK: Final = 10.0  # seconds between looks for whom slow claims are owed to

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Claimed:
    """What a claim has come to."""

    units: Sequence[Unit]  # to be started
    refused: Sequence[Failed]  # never can be
    seconds: float  # that its statements took

    def __len__(self) -> int:
        return len(self.units) + len(self.refused)

    @property
    def is_unread(self) -> bool:
        """Whether there is a payload that the database could not read."""
        messages = [each for unit in self.units for each in unit.messages]
        messages += [one.message for one in self.refused]
        return any(message.payload == UNKNOWN for message in messages)


class Relay:
    """Turns outbox messages into workflows, for all tenants in turn.

    Several may run at once. What one has in hand when it dies is taken by another after the lease.
    """

    def __init__(
        self,
        client: Client,
        url: str,
        *,
        options: RelayOptions | None = None,
        alerts: Sequence[AlertSink] = (),
        deliver: Deliver = start_unit,
    ) -> None:
        """
        Args:
            client: with the tenancy plugin on, whose directory says who the tenants are.
            url: of the database, as the role `tenancy_relay`. It names the server itself: a
                transaction pooler passes on neither the relay's settings nor notifications. What
                is opened there `run()` closes.
            options: how it works.
            alerts: the ways to people, beside the log, for messages that wait for too long.
            deliver: what is done with each unit; measurements put something else in its place.

        Raises:
            ConfigurationError: the client knows no tenants, or `url` is not one of PostgreSQL.
        """
        self._client = client
        self._directory = _directory_of(client)
        self._database = relay_database(url)
        self._url = url
        self._options = options or RelayOptions()
        self._deliver = deliver
        self._alerts = alerts
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._starts = asyncio.Semaphore(self._options.starts)
        self._in_hand = 0  # messages that are claimed and not yet started
        self._room = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._after = ""  # the tenant that was looked at last
        # Units and refusals in this lap, from the last tenant that there is to the last one again.
        self._lap_claimed: int | None = None
        self._apart = Apart(self._options.apart)
        self._slow_look = 0.0  # when a slow claim makes its tenants suspect again, monotonic
        self._away = 0  # times in a row that Temporal did not answer
        self._marks = MarkWriter(self._database)
        self._upkeep = Upkeep(client, self._database, self._options)
        self.task_queue: Final = "outbox"  # what its process's health calls it
        self.is_running = False  # whether the last look at the outbox succeeded
        self.is_shutdown = False
        self._has_run = asyncio.Event()

    def stop(self) -> None:
        """Asks for an end: no more is claimed, and what is in hand is started."""
        self._stopping.set()
        self._wake.set()
        self._room.set()
        self._apart.wake()

    async def until_running(self) -> None:
        """Waits until the outbox has been looked at."""
        await self._has_run.wait()

    async def run(self) -> None:
        """Works until `stop()`; returns when nothing is in hand any more, and all is closed.

        Whatever ends one of its parts ends it, and is raised.
        """
        try:
            await self._run()
        finally:
            self.is_running = False
            self.is_shutdown = True
            await self._database.dispose()

    async def _run(self) -> None:
        claiming = [
            asyncio.create_task(self._claiming()),
            asyncio.create_task(self._claiming_apart()),
        ]
        marking = asyncio.create_task(self._marks.run())
        beside = [
            *(
                asyncio.create_task(self._looking_after(duty))
                for duty in (self._start_lost, self._free_ended_slots, self._upkeep.prune)
            ),
            asyncio.create_task(self._minding_the_age()),
        ]
        if self._options.listens:
            beside.append(asyncio.create_task(listen(self._url, self._wake)))
        try:
            parts = (*claiming, marking, *beside)
            ended, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            for part in ended:
                part.result()
            await asyncio.gather(*claiming)  # asked to stop: what they have in hand is taken
            if self._tasks:
                await asyncio.wait(self._tasks)
        finally:
            for task in (*claiming, *beside):
                task.cancel()
            await asyncio.gather(*claiming, *beside, return_exceptions=True)
            self._marks.finish()
            await asyncio.wait((marking,))
        marking.result()

    async def _claiming(self) -> None:
        failed = 0
        while not self._stopping.is_set():
            try:
                await self._wait_for_room()
                await self._claim()
                self.is_running, failed = True, 0
                self._has_run.set()
            except (DatabaseProblem, DBAPIError) as error:
                if failed == 0:
                    log.warning("relay.database_away", extra={"error_type": type(error).__name__})
                self.is_running = False
                failed += 1
                await self._pause_while_away(failed)

    async def _wait_for_room(self) -> None:
        while not self._stopping.is_set() and self._in_hand >= self._options.batch:
            self._room.clear()
            await self._room.wait()
        if self._away and not self._stopping.is_set() and self._in_hand == 0:
            # One small claim after another finds out whether Temporal is back.
            await self._pause_while_away(self._away)

    async def _idle(self) -> None:
        try:
            async with asyncio.timeout(self._options.poll.total_seconds()):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _pause_while_away(self, times: int) -> None:
        """Waits, once a server has not answered so many `times` in a row."""
        pauses = self._options.away
        try:
            async with asyncio.timeout(pauses[min(times, len(pauses)) - 1].total_seconds()):
                await self._stopping.wait()
        except TimeoutError:
            pass

    async def _claim(self) -> None:
        """Claims for some tenants, the next ones each time, and waits after a lap for nothing."""
        if self._stopping.is_set():
            return
        if self._lap_claimed is None:
            self._wake.clear()  # before looking: what comes from now on begins another lap
            self._lap_claimed = 0
        async with self._database.platform_session("relay messages") as session:
            tenants = await queue.waiting_tenants(session, after=self._after, limit=TENANTS_AT_ONCE)
            wraps = len(tenants) < TENANTS_AT_ONCE
            if wraps and self._after:
                # As many as ever, or those at the end of the alphabet would have larger shares.
                more = TENANTS_AT_ONCE - len(tenants)
                first = await queue.waiting_tenants(session, after="", limit=more)
                tenants += [tenant for tenant in first if tenant not in tenants]
        if tenants:
            self._lap_claimed += await self._claim_of(tenants)
            self._after = tenants[-1]
        if wraps:
            found, self._lap_claimed = self._lap_claimed, None
            if found == 0:
                await self._idle()

    async def _claim_of(self, tenants: Sequence[str]) -> int:
        """Claims for these tenants, and starts what it finds; returns how much that is.

        A claim that fails for all together fails for nobody: its tenants are tried alone, and who
        fails alone, or is slow, is claimed for beside the others from then on.
        """
        room = len(tenants) if self._away else self._options.batch
        some = len(tenants) == TENANTS_AT_ONCE
        together = []
        for tenant in await self._not_behind(tenants):
            if tenant in self._apart:
                self._apart.ask(tenant)
            else:
                together.append(tenant)
        if not together:
            return 0
        limit = self._options.claim_limit
        try:
            claimed = await self._claim_together(together, room=room, some=some, limit=limit)
        except ROW_ERRORS as error:
            if not is_of_a_row(error):
                raise
            log.warning("relay.claim_failed", extra={"error_type": kind_of(error)})
            self._apart.suspect(together)
            return 0
        if self._is_slow(claimed) and self._slow_look <= time.monotonic():
            log.warning("relay.claim_slow", extra={"seconds": round(claimed.seconds, 3)})
            self._apart.suspect(together)
            self._slow_look = time.monotonic() + SLOW_LOOK
        self._take(claimed)
        return len(claimed)

    async def _not_behind(self, tenants: Sequence[str]) -> Sequence[str]:
        """Leaves out tenants with so many unwritten marks that they would fill the memory.

        A tenant's own locks keep them so, and its messages wait until they are gone.
        """
        at_most = self._options.batch
        if any(self._marks.gathered(tenant) >= at_most for tenant in tenants):
            await self._marks.written()  # with those of others, unless it is set apart now
        return [tenant for tenant in tenants if self._marks.unwritten(tenant) < at_most]

    def _is_slow(self, claimed: _Claimed) -> bool:
        return claimed.seconds > self._options.claim_limit.total_seconds() / 2

    async def _claiming_apart(self) -> None:
        """Claims for those who are apart, one after the other, until `stop()`."""
        while not self._stopping.is_set():
            tenant = self._apart.next()
            if tenant is None:
                await self._apart.changed()
                continue
            await self._wait_for_room()
            if self._stopping.is_set():
                return
            try:
                await self._claim_apart(tenant)
            except (DatabaseProblem, DBAPIError):  # whoever claims for the others tells of it
                self._apart.rest(tenant)
                await self._pause_while_away(1)

    async def _claim_apart(self, tenant: str) -> None:
        if not await self._not_behind([tenant]):
            self._apart.rest(tenant)
            return
        careful = self._apart.is_careful(tenant)
        share = max(1, self._options.batch // len(self._apart))
        room = 1 if self._away else ONE_BY_ONE if careful else share
        # What is slow by itself, a table that is not vacuumed, is not to be too slow for ever.
        limit = self._options.claim_limit * min(2 ** self._apart.failures(tenant), LONGEST_CLAIM)
        try:
            claimed = await self._claim_together(
                [tenant], room=room, some=False, limit=limit, one_by_one=careful
            )
        except ROW_ERRORS as error:
            if not is_of_a_row(error):
                raise
            self._apart.failed(tenant)
            kind = kind_of(error)
            log.error(
                "relay.tenant_failed_a_claim", extra={"tenant_id": tenant, "error_type": kind}
            )
            return
        self._take(claimed)
        troubled = claimed.is_unread or self._is_slow(claimed)
        self._apart.passed(tenant, found=bool(claimed), troubled=troubled)
        if tenant not in self._apart:
            self._wake.set()  # what else it has is for the common lap

    async def _claim_together(
        self,
        tenants: Sequence[str],
        *,
        room: int,
        some: bool,
        limit: timedelta,
        one_by_one: bool = False,
    ) -> _Claimed:
        records = {tenant.id: tenant for tenant in await self._records(tenants)}
        async with self._database.platform_session("relay messages") as session:
            await queue.limit_statements(session, limit)
            began = time.monotonic()
            allowed = await admission.allowances(session, tenants, records, room=room, some=some)
            quotas = {tenant: each.quota for tenant, each in allowed.items() if each.only is None}
            of_jobs = {
                (tenant, job): each.quota
                for tenant, each in allowed.items()
                for job in each.only or ()
            }
            lease = self._options.lease
            claimed = await queue.claim(session, quotas, lease=lease, one_by_one=one_by_one)
            claimed += await queue.claim_more(session, of_jobs, lease=lease, one_by_one=one_by_one)
            units, refused = self._sort(claimed, records)
            more_refused: list[Failed] = []
            if not one_by_one:
                units, more_refused = await self._fill(session, units, records)
            units = [replace(unit, holds_slot=allowed[unit.tenant_id].capped) for unit in units]
            await self._take_in_hand(session, units)
            seconds = time.monotonic() - began
        return _Claimed(units, [*refused, *more_refused], seconds)

    async def _take_in_hand(self, session: AsyncSession, units: Sequence[Unit]) -> None:
        """Notes what is going to be started: the slots it holds, and what it works off."""
        await queue.take_slots(session, [unit for unit in units if unit.holds_slot])
        together = [unit for unit in units if unit.coalesced]
        await queue.hand_over(session, together, lease=self._options.lease)

    async def _records(self, tenants: Sequence[str]) -> list[Tenant]:
        found = await asyncio.gather(*map(self._directory.find, tenants))
        return [tenant for tenant in found if tenant is not None]

    def _sort(
        self, messages: Iterable[Message], records: dict[str, Tenant]
    ) -> tuple[list[Unit], list[Failed]]:
        """Puts messages that are worked off together into one unit, and finds what can never be."""
        units: list[Unit] = []
        refused: list[Failed] = []
        together: dict[tuple[str, str], list[Message]] = defaultdict(list)
        for message in messages:
            try:
                job, input = job_of_message(message, records.get(message.tenant_id))
                alone = Unit(str(message.own_id), [message], input=input)
            except Exception as error:  # whatever it is, it is this message's own
                refused.append(failed(message, error, self._options.ladder))
                continue
            if job.coalesce is None:
                units.append(alone)
            else:
                together[message.tenant_id, message.job].append(message)
        for (_, name), several in together.items():
            units += _batches(registry.get_or_raise(name), several)
        return units, refused

    async def _fill(
        self, session: AsyncSession, units: list[Unit], records: dict[str, Tenant]
    ) -> tuple[list[Unit], list[Failed]]:
        """Adds to each unit that is not full what else waits for its tenant and job."""
        short = {
            (unit.tenant_id, unit.messages[0].job): unit
            for unit in units
            if unit.coalesced and len(unit.messages) < _limit(unit)
        }
        wanted = {where: _limit(unit) - len(unit.messages) for where, unit in short.items()}
        more, refused = self._sort(
            await queue.claim_more(session, wanted, lease=self._options.lease), records
        )
        for added in more:
            where = added.tenant_id, added.messages[0].job
            full = replace(short[where], messages=[*short[where].messages, *added.messages])
            units[units.index(short[where])] = short[where] = full
        return units, refused

    def _take(self, claimed: _Claimed) -> None:
        """Starts units beside what goes on, in an order that takes tenants in turn."""
        self._marks.failed(claimed.refused)
        taken_at = time.monotonic()
        for unit in _in_turn(claimed.units):
            self._in_hand += len(unit.messages)
            task = asyncio.create_task(self._start(unit, taken_at))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _start(self, unit: Unit, taken_at: float) -> None:
        async with self._starts:
            try:
                if time.monotonic() - taken_at > self._options.lease.total_seconds() / 2:
                    # Whoever takes it after the lease must not find it being started.
                    self._marks.released(unit)
                    return
                started = await self._deliver(self._client, unit, self._options.ladder)
                self._away = 0
                # One that was started before may have ended: nobody would free its slot.
                over = unit.holds_slot and started is False
                frees = over and await self._upkeep.frees(unit.workflow_id)
                self._marks.started(unit, frees_slot=frees)
            except ServerAway as error:
                if self._away == 0:
                    log.warning("relay.temporal_away", extra={"error": str(error)})
                self._away += 1
                self._marks.released(unit)
            except (DatabaseProblem, DBAPIError):  # of the directory; whoever claims tells of it
                self._marks.released(unit)
            except Exception as error:  # whatever it is, it is these messages' own
                ladder = self._options.ladder
                self._marks.not_started(
                    unit, [failed(each, error, ladder) for each in unit.messages]
                )
            finally:
                self._in_hand -= len(unit.messages)
                if self._in_hand < self._options.batch:
                    self._room.set()

    async def _looking_after(self, duty: Callable[[], Awaitable[None]]) -> None:
        """Does one duty again and again, beside the others: none waits for another, or ends it."""
        while True:
            try:
                await duty()
            except (DatabaseProblem, DBAPIError) as error:
                log.warning("relay.upkeep_failed", extra={"error_type": type(error).__name__})
            except Exception:  # what it stumbles over is no reason to release nothing
                log.exception("relay.upkeep_failed")
            await asyncio.sleep(self._options.upkeep.total_seconds())

    async def _start_lost(self) -> None:
        at_most = self._options.batch
        async for message in self._upkeep.lost(lambda t: self._marks.unwritten(t) >= at_most):
            try:
                await self._start_alone(message)
            except LockHeld:  # it has a lease again, and is found after that
                log.warning("message.locked", extra={"tenant_id": message.tenant_id})

    async def _free_ended_slots(self) -> None:
        if await self._upkeep.free_ended_slots():
            self._wake.set()

    async def _minding_the_age(self) -> None:
        while True:
            await asyncio.sleep(self._options.age_look.total_seconds())
            try:
                await tell_of_old_messages(self._database, self._directory, self._alerts)
            except (DatabaseProblem, DBAPIError) as error:
                log.warning("relay.upkeep_failed", extra={"error_type": type(error).__name__})
            except Exception:
                log.exception("relay.upkeep_failed")

    async def _start_alone(self, message: Message) -> None:
        """Starts a message that somebody lost, and marks it before the next is taken."""
        tenant = await self._directory.find(message.tenant_id)
        job = registry.get(message.job)
        async with self._database.platform_session("relay messages") as session:
            decided = await admission.decisions(session, [message.tenant_id])
        decision = decided.get(message.tenant_id, admission.NOTHING)
        if admission.held_back(tenant, decision, job) is not None:
            self._marks.released(Unit(message.letter_id, [message]))
            await self._marks.written()
            return
        units, refused = self._sort([message], {} if tenant is None else {tenant.id: tenant})
        self._marks.failed(refused)
        for lost in units:
            async with self._database.platform_session(
                "relay messages", lock_timeout=LOCK_WAIT
            ) as session:
                cap = admission.cap_of(tenant, decision)
                unit = replace(lost, holds_slot=cap is not None)  # it was admitted before
                await self._take_in_hand(session, [unit])
            self._in_hand += 1
            await self._start(unit, time.monotonic())
        await self._marks.written()


def _directory_of(client: Client) -> CachedDirectory:
    """Who the tenants are, as the client's own starts are checked; one cache for both."""
    for plugin in client.config()["plugins"]:
        if isinstance(plugin, TenancyPluginBase) and plugin.directory is not None:
            return plugin.directory
    raise ConfigurationError(
        "this relay's client knows no tenants. Give it to the client: "
        "Client.connect(..., plugins=[TenancyPlugin(directory=...)])."
    )


def _batches(job: Job, messages: Sequence[Message]) -> list[Unit]:
    """Units of a coalescing job's messages, each full but the last."""
    assert job.coalesce is not None
    limit = job.coalesce.limit
    parts = (messages[first : first + limit] for first in range(0, len(messages), limit))
    # An id of its own each time: one that was started in spite of an error finds that its messages
    # are no longer its own.
    return [
        Unit(
            str(WorkflowId(part[0].tenant_id, job.name, f"messages-{uuid4()}")),
            part,
            coalesced=True,
        )
        for part in parts
    ]


def _limit(unit: Unit) -> int:
    coalesce = registry.get_or_raise(unit.messages[0].job).coalesce
    return 1 if coalesce is None else coalesce.limit


def _in_turn(units: Iterable[Unit]) -> list[Unit]:
    """One unit of each tenant after the other, each tenant's own in their order."""
    turns: dict[str, int] = defaultdict(int)
    ranked: list[tuple[int, Unit]] = []
    for unit in units:
        ranked.append((turns[unit.tenant_id], unit))
        turns[unit.tenant_id] += 1
    return [unit for _, unit in sorted(ranked, key=lambda item: item[0])]
