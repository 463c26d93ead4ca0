"""The mutants of requests: faults in which keys are accepted, and in what counts as a repeat."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel

from temporal_tenancy.core.jobs import Job
from temporal_tenancy.outbox import enqueueing
from temporal_tenancy.outbox.relay import starting
from tests.mutants.mutant import Mutant, replace

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


REQUEST_FAULTS: Final = [
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
]
