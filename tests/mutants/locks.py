"""The mutants of waiting: faults in who waits for a tenant's lock, and whose an id is."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from sqlalchemy import text
from temporalio.client import Client, WorkflowExecutionDescription

from temporal_tenancy import taken_ids
from temporal_tenancy.relay import marks, queue, upkeep
from temporal_tenancy.relay.marks import Marks
from tests.mutants.mutant import Mutant, replace

BESIDE: Final = "tests/integration/test_relay_beside_locks.py"
TAKEN: Final = "tests/integration/test_taken_ids.py"


def _wait_for_every_lock() -> None:
    for module in (marks, upkeep):
        replace(module, "LOCK_WAIT", timedelta(minutes=10))


def _set_nobody_apart() -> None:
    def give_up(self: Marks, tenant: str, unwritten: Any, error: Exception) -> None:
        raise error

    replace(Marks, "_set_apart", give_up)


def _gather_without_end() -> None:
    replace(Marks, "unwritten", lambda self, tenant: 0)


def _give_back_what_another_has() -> None:
    later = "and m.attempts = released.attempts"
    replace(queue, "_RELEASE", text(queue._RELEASE.text.replace(later, "")))


def _believe_that_it_is_done() -> None:
    async def nothing_wrong(client: Client, run: WorkflowExecutionDescription) -> None:
        return None

    replace(taken_ids, "disagreement", lambda run, *workflow_types: None)
    replace(taken_ids, "_wrong_start", nothing_wrong)


LOCK_FAULTS: Final = [
    Mutant(
        "marks-wait-for-a-lock",
        "a relay waits for what one tenant has locked",
        (f"{BESIDE}::test_the_others_marks_are_written_and_a_locked_tenants_come_later",),
        seed=_wait_for_every_lock,
    ),
    Mutant(
        "marks-of-all-or-none",
        "a tenant whose rows are locked is not set apart",
        (f"{BESIDE}::test_the_others_marks_are_written_and_a_locked_tenants_come_later",),
        seed=_set_nobody_apart,
    ),
    Mutant(
        "marks-without-end",
        "a tenant is claimed for however many of its marks are unwritten",
        (f"{BESIDE}::test_what_is_locked_as_it_is_started_does_not_pile_up_in_the_relay",),
        seed=_gather_without_end,
    ),
    Mutant(
        "given-back-late",
        "a relay gives back what another has by now",
        (f"{BESIDE}::test_what_is_given_back_late_stays_with_who_has_it_since",),
        seed=_give_back_what_another_has,
    ),
    Mutant(
        "taken-id-is-done",
        "a start that finds its id taken is done, whatever has it",
        (f"{TAKEN}::test_what_is_not_the_tenants_own_run_has_taken_the_id",),
        seed=_believe_that_it_is_done,
    ),
]
