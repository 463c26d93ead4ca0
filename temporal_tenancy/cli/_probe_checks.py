"""The doctor's probe: a message goes through the outbox, a relay and each queue's workers.

It finds what no server knows: a relay or a worker that hangs, or that runs older code.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import psycopg
from sqlalchemy.exc import SQLAlchemyError
from temporalio.client import Client, WorkflowFailureError
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError

from temporal_tenancy.cli._code_checks import NAMES as CODE
from temporal_tenancy.cli._code_checks import code_checks
from temporal_tenancy.cli._not_reachable import NotReachable
from temporal_tenancy.cli._server_access import connected, control_plane
from temporal_tenancy.cli._verdicts import Check, failed, ok, skipped, warning
from temporal_tenancy.cli._workers import no_worker, pollers
from temporal_tenancy.cli.answers import number
from temporal_tenancy.cli.program import Application, current_application, current_program
from temporal_tenancy.core.display import printable
from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.deployments.polling import KINDS
from temporal_tenancy.outbox.probe.evidence import Evidence, end, evidence
from temporal_tenancy.outbox.probe.messages import ProbeMessages, forget_letters
from temporal_tenancy.outbox.probe.starting import probe_id, start_probe
from temporal_tenancy.outbox.probe.workflow import (
    ANSWERS_AT_MOST,
    NAME,
    ProbeAnswer,
    ProbeInput,
    ProbeReport,
)
from temporal_tenancy.outbox.tables import MessageStatus
from temporal_tenancy.postgres.database_errors import DatabaseProblem

PATIENCE: Final = timedelta(seconds=10)  # of a relay, and then of the workers
ACTIVITY_SHARE: Final = 0.5  # of the patience, for an activity that a silent worker may take
ANSWERS_A_WORKER: Final = 4  # so that each of several workers gets one, in all likelihood
LOOK: Final = 0.1  # seconds between two looks at the messages
NAMES_SHOWN: Final = 3

_RELAY: Final = "relay"
# What the database's driver and the library raise when the outbox cannot be used.
_AWAY: Final = (DatabaseProblem, ConfigurationError, psycopg.Error)


@dataclass(frozen=True)
class _Outcome:
    """What came back from a queue's workers."""

    report: ProbeReport | None  # None: the run did not end in time
    seconds: float  # until then
    evidence: Evidence  # of what did not come back


async def probe_checks(patience: timedelta = PATIENCE) -> list[Check]:
    """Sends a probe to each queue, by the outbox and a relay where there are any.

    Where no relay starts the probe, the workers are asked without one. `patience` is how long a
    relay, and then the workers, have to answer.
    """
    application = current_application()
    names = [_RELAY, *map(_name_of_workers, application.queues), *CODE]
    if not application.has_outbox:
        return skipped(names, "the plugin has no outbox, whose feature answers probes.")
    try:
        with application.reaching():
            client = await connected(application)
            return await _Probing(application, client, patience).checks()
    except (NotReachable, ConfigurationError):
        return skipped(names, "Temporal does not answer.")
    except RPCError as error:
        return skipped(names, f"Temporal refused the probe: {printable(error.message)}.")


class _Probing:
    """One doctor's probes: of each queue, under a key of its own."""

    def __init__(self, application: Application, client: Client, patience: timedelta) -> None:
        self._application = application
        self._client = client
        self._patience = patience
        url = application.tenant.url
        self._messages = None if url is None else ProbeMessages(url, application.installation)
        self._written: set[str] = set()  # keys

    async def checks(self) -> list[Check]:
        pollers = {queue: await self._pollers(queue) for queue in self._application.queues}
        served = [queue for queue, identities in pollers.items() if identities]
        # A relay is probed without any worker too, on a queue that nobody serves.
        queues = served or [f"{NAME}-{uuid.uuid4().hex}"]
        probes = {uuid.uuid4().hex: self._probe(q, pollers.get(q, set())) for q in queues}
        try:
            relay, started = await self._relay(probes)
            keys = [key for key, probe in probes.items() if probe.queue in served]
            outcomes = await asyncio.gather(
                *(self._ask(key, probes[key], is_started=key in started) for key in keys)
            )
        finally:
            await asyncio.shield(self._clean_up(list(probes)))
        by_queue = {probes[key].queue: got for key, got in zip(keys, outcomes, strict=True)}
        workers = [
            _workers(queue, identities, by_queue.get(queue))
            for queue, identities in pollers.items()
        ]
        return [relay, *workers, *code_checks({q: _answers(by_queue.get(q)) for q in pollers})]

    async def _pollers(self, queue: str) -> set[str]:
        found = [await pollers(self._client, queue, kind) for kind in KINDS]
        return set().union(*found) if all(found) else set()

    def _probe(self, queue: str, identities: set[str]) -> ProbeInput:
        answers = len(identities) * ANSWERS_A_WORKER if len(identities) > 1 else 1
        return ProbeInput(
            queue=queue,
            answers=min(answers, ANSWERS_AT_MOST),
            patience=self._patience.total_seconds() * ACTIVITY_SHARE,
        )

    async def _relay(self, probes: Mapping[str, ProbeInput]) -> tuple[Check, set[str]]:
        """Returns the relay's check, and the keys of the probes that a relay has started."""
        if self._messages is None:
            reason = f"{self._application.tenant.setting} is not set; the probe is written with it."
            return skipped([_RELAY], reason)[0], set()
        try:
            return await self._probe_relay(list(probes), probes)
        except (DatabaseProblem, ConfigurationError):
            return skipped([_RELAY], "the database cannot be used; see its checks.")[0], set()
        except psycopg.Error as error:
            reason = printable(error.diag.message_primary or type(error).__name__)
            return failed(_RELAY, f"the outbox cannot be used: {reason}."), set()

    async def _probe_relay(
        self, keys: Sequence[str], probes: Mapping[str, ProbeInput]
    ) -> tuple[Check, set[str]]:
        assert self._messages is not None
        if await asyncio.to_thread(self._messages.relays) == 0:
            return self._no_relay(), set()
        self._written.update(keys)
        await asyncio.to_thread(self._messages.write, probes)
        began = time.monotonic()
        started = await self._until_started(keys)
        if len(started) < len(keys):
            return await self._not_relayed(keys), started
        seconds = time.monotonic() - began
        return ok(_RELAY, f"a relay started the probe {seconds:.1f} s after its commit."), started

    def _no_relay(self) -> Check:
        login = self._application.relay
        if login.url is None:
            message = (
                f"none is connected, and {login.setting} is not set; only an outbox needs one."
            )
            return skipped([_RELAY], message)[0]
        command = self._application.start_relay
        how = "" if command is None else f': "{command.format(program=current_program().name)}"'
        return failed(
            _RELAY, f"no relay is connected to the database, so messages wait. Start one{how}."
        )

    async def _until_started(self, keys: Sequence[str]) -> set[str]:
        assert self._messages is not None
        deadline = time.monotonic() + self._patience.total_seconds()
        while True:
            states = await asyncio.to_thread(self._messages.states, keys)
            # A relay deletes messages that it has completed, so one that is gone was started.
            waiting = {
                key for key, state in states.items() if state.status is not MessageStatus.COMPLETED
            }
            started = set(keys) - waiting
            refused = any(state.error for state in states.values())
            if len(started) == len(keys) or refused or time.monotonic() > deadline:
                return started
            await asyncio.sleep(LOOK)

    async def _not_relayed(self, keys: Sequence[str]) -> Check:
        assert self._messages is not None
        states = await asyncio.to_thread(self._messages.states, keys)
        left = [states[key] for key in keys if key in states]
        errors = [state.error for state in left if state.error]
        if errors:
            return failed(
                _RELAY,
                f"a relay could not start the probe: {printable(errors[0])} If the relay is of an "
                "earlier release, restart it with this one's code.",
            )
        waited = f"within {self._patience.total_seconds():g} s"
        if any(state.status is MessageStatus.PROCESSING for state in left):
            return failed(
                _RELAY,
                f"a relay has claimed the probe and not started it {waited}: it hangs, or Temporal "
                "does not answer it. Look at its log, and restart it.",
            )
        connections = await asyncio.to_thread(self._messages.relays)
        return failed(
            _RELAY,
            f"no relay has claimed the probe {waited}, though relays have "
            f"{number(connections, 'connection')} to the database: they hang. Restart them.",
        )

    async def _ask(self, key: str, probe: ProbeInput, *, is_started: bool) -> _Outcome:
        """Waits for the workers' answers; starts the run itself if no relay has."""
        began = time.monotonic()
        report = None
        if not is_started:
            with suppress(WorkflowAlreadyStartedError):
                await start_probe(self._client, key, probe)
        handle = self._client.get_workflow_handle(probe_id(key), result_type=ProbeReport)
        try:
            async with asyncio.timeout(self._patience.total_seconds()):
                report = await handle.result()
        except (TimeoutError, WorkflowFailureError):
            pass
        seconds = time.monotonic() - began
        return _Outcome(report, seconds, await evidence(self._client, key))

    async def _clean_up(self, keys: Sequence[str]) -> None:
        if self._messages is not None and self._written:
            with suppress(*_AWAY, NotReachable, SQLAlchemyError):
                removed = await asyncio.to_thread(self._messages.remove, sorted(self._written))
                if MessageStatus.DEAD_LETTER in removed.values():
                    # A relay of an earlier release took the probe for a tenant's job.
                    async with control_plane() as database:
                        await forget_letters(database)
        await asyncio.gather(*(end(self._client, key) for key in keys))


def _name_of_workers(queue: str) -> str:
    return f"workers of {queue}"


def _workers(queue: str, identities: set[str], outcome: _Outcome | None) -> Check:
    name = _name_of_workers(queue)
    if outcome is None:
        return failed(name, no_worker(queue))
    found = outcome.evidence
    served = f'the queue "{queue}" is served'
    if found.silent:
        return failed(
            name,
            f"{_names(found.silent)} took a probe from the queue and did not answer: the process "
            "hangs, or its machine is overloaded. Restart it.",
        )
    if outcome.report is None and found.strangers:
        return warning(
            name,
            f"{_names(found.strangers)} does not know the probe, and so is of an earlier release. "
            "Restart it with this one's code.",
        )
    if outcome.report is None or not outcome.report.answers:
        if found.answered and found.activity_waits:
            return warning(
                name,
                f"{served}, but no slot for an activity was free within {outcome.seconds:.0f} s. "
                "If that stays so, run more workers, or raise the number of slots.",
            )
        if found.answered:
            return warning(
                name,
                f"{served}, but the whole answer did not come within {outcome.seconds:.0f} s: the "
                "workers' machine is overloaded. Give them longer with --patience, or run more.",
            )
        return failed(
            name,
            f"nobody took the probe from the queue within {outcome.seconds:.0f} s, though "
            f"{_names(identities)} polled it lately: the process hangs or has ended. Restart it.",
        )
    workers = {answer.identity for answer in outcome.report.answers}
    answered = f"{number(len(workers), 'worker')} answered within {outcome.seconds:.1f} s"
    return ok(name, f"{served}; {answered}.")


def _answers(outcome: _Outcome | None) -> Sequence[ProbeAnswer]:
    return () if outcome is None or outcome.report is None else outcome.report.answers


def _names(identities: set[str]) -> str:
    shown = [printable(identity) for identity in sorted(identities)]
    more = len(shown) - NAMES_SHOWN
    if more > 0:
        return f"{', '.join(shown[:NAMES_SHOWN])} and {more} more"
    return ", ".join(shown)
