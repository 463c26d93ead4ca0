"""The mutants of waiting: faults in who waits for a tenant's lock, and whose an id is."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from temporalio.client import Client, WorkflowExecutionDescription

from temporal_tenancy import taken_ids
from temporal_tenancy.relay import marks, upkeep
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
        "taken-id-is-done",
        "a start that finds its id taken is done, whatever has it",
        (f"{TAKEN}::test_what_is_not_the_tenants_own_run_has_taken_the_id",),
        seed=_believe_that_it_is_done,
    ),
]
