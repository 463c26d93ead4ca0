"""The mutants of requests: faults in keys, in what counts as a repeat, and in what is not lost."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from temporal_tenancy.core import tasks
from temporal_tenancy.core.jobs import Job
from temporal_tenancy.outbox import enqueueing
from temporal_tenancy.outbox.relay import starting
from temporal_tenancy.outbox.relay.messages import Failed
from temporal_tenancy.outbox.relay.relay import Relay
from temporal_tenancy.postgres._awaited_session import AwaitedSession
from temporal_tenancy.postgres.unfinished import Unfinished
from temporal_tenancy.sdk import taken_ids
from tests.mutants.mutant import Mutant, replace

ANOTHER_PERIOD: Final = "tests/library/ticks/test_another_period.py"
MISSING_AWAITS: Final = "tests/library/postgres/test_missing_awaits.py"
AWAITED: Final = "tests/library/outbox/test_awaited_requests.py"
RELAY: Final = "tests/library/outbox/test_relay.py"
REUSED: Final = "tests/library/outbox/test_reused_keys.py"
STOP: Final = "tests/library/outbox/test_relay_stop.py"
REQUESTS: Final = "tests/library/outbox/test_requests.py"
KEYS: Final = "tests/system/cli/test_job_keys.py"


def _take_any_key() -> None:
    def key_of(self: Job, job_input: BaseModel, key: str | None = None) -> str | None:
        return key if key is not None or self.period is None else str(vars(job_input)["period"])

    replace(Job, "key_of", key_of)


def _start_any_key() -> None:
    def nothing(*_: Any) -> None:
        """Replaces a check, and finds nothing."""

    replace(starting, "_require_key", nothing)


def _take_any_input() -> None:
    replace(enqueueing, "_is_same", lambda *_: True)


def _take_any_run_for_the_requests_own() -> None:
    replace(taken_ids, "is_same_input", lambda *_: True)


def _share_letters() -> None:
    replace(Failed, "letter_id", property(lambda self: self.message.letter_id))


def _miss_nothing() -> None:
    replace(Unfinished, "require_none", lambda self: None)


def _run_what_another_period_asked_for() -> None:
    replace(Job, "another_period", lambda *_: None)


def _miss_statements() -> None:
    replace(AwaitedSession, "execute", AsyncSession.execute)


def _keep_what_was_written() -> None:
    replace(enqueueing, "_TAKE_BACK", text("select :tenant, cast(:ids as uuid[])"))


def _blame_the_messages() -> None:
    async def nothing(client: Any, error: Any) -> None:
        """Finds nothing missing."""

    replace(starting, "_fault_of_namespace", nothing)


def _wait_for_ever() -> None:
    async def wait(self: Relay, *tasks: Any) -> None:
        await asyncio.wait(tasks)

    replace(Relay, "_cut", wait)


def _cancel_once() -> None:
    def forget(left: Any) -> None:
        """Cancels nothing again."""

    replace(tasks, "_cancel_again", forget)


REQUEST_FAULTS: Final = [
    Mutant(
        "runs-of-another-period",
        "a start whose key names another period than its input is accepted",
        (
            f"{ANOTHER_PERIOD}::"
            "test_a_start_whose_key_names_another_period_than_its_input_is_refused",
        ),
        seed=_run_what_another_period_asked_for,
    ),
    Mutant(
        "statements-never-awaited",
        "a session's statement that nobody awaits is not noticed",
        (f"{MISSING_AWAITS}::test_a_call_that_is_not_awaited_rolls_its_block_back",),
        seed=_miss_statements,
    ),
    Mutant(
        "keys-of-no-period",
        "a job with a period accepts any key",
        (f"{KEYS}::test_what_one_door_takes_as_a_key_every_door_takes",),
        seed=_take_any_key,
    ),
    Mutant(
        "relay-starts-any-key",
        "the relay starts a job with a period under any key",
        (f"{REQUESTS}::test_a_key_that_no_door_takes_is_a_dead_letter_at_the_relay",),
        seed=_start_any_key,
    ),
    Mutant(
        "keys-taken-twice",
        "another input under the same key is silently ignored",
        (f"{REQUESTS}::test_another_input_under_a_key_is_refused",),
        seed=_take_any_input,
    ),
    Mutant(
        "keys-reused-silently",
        "a start whose id a run with another input has counts as done",
        (
            f"{REUSED}::test_another_input_under_a_used_key_is_a_dead_letter_that_can_be_replayed",
            f"{REUSED}::test_a_lost_message_whose_key_another_request_has_used_is_not_completed",
            "tests/system/cli/test_reused_keys.py",
        ),
        seed=_take_any_run_for_the_requests_own,
    ),
    Mutant(
        "letters-of-another-request",
        "the letter of a reused key is under the id of the run that has used it",
        (f"{REUSED}::test_a_run_that_goes_on_and_one_that_has_failed_keep_their_own_letters",),
        seed=_share_letters,
    ),
    Mutant(
        "requests-not-awaited",
        "a block commits without a request that was not awaited",
        (f"{AWAITED}::test_a_call_that_is_not_awaited_rolls_its_block_back",),
        seed=_miss_nothing,
    ),
    Mutant(
        "some-of-many-requests",
        "the requests beside one whose key is taken are written",
        (f"{REQUESTS}::test_another_input_under_a_key_is_refused",),
        seed=_keep_what_was_written,
    ),
    Mutant(
        "messages-blamed-for-the-namespace",
        "a message fails because the namespace has lost its search attributes",
        (f"{RELAY}::test_messages_wait_while_the_namespace_has_lost_its_search_attributes",),
        seed=_blame_the_messages,
    ),
    Mutant(
        "stop-without-end",
        "a relay that is told to stop waits for ever for a silent database",
        (f"{STOP}::test_a_relay_ends_whose_database_has_fallen_silent",),
        seed=_wait_for_ever,
    ),
    Mutant(
        "cancelled-once",
        "a task that loses one cancellation is waited for without end",
        ("tests/library/core/test_tasks.py::test_a_task_ends_that_loses_a_cancellation",),
        seed=_cancel_once,
    ),
]
