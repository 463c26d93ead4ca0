"""The mutants of locks: faults in who waits for a tenant's lock, and in whose an id is."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from sqlalchemy import text

from temporal_tenancy.outbox import _working as working
from temporal_tenancy.outbox.marks import Holder, completing, failing
from temporal_tenancy.outbox.relay import _mark_writer as marks
from temporal_tenancy.outbox.relay import _upkeep as upkeep
from temporal_tenancy.outbox.relay import queue
from temporal_tenancy.outbox.relay._mark_writer import MarkWriter
from temporal_tenancy.outbox.relay._upkeep import Upkeep
from temporal_tenancy.outbox.tables import IS_PROCESSING_BY_KEY
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.sdk import taken_ids
from tests.mutants.mutant import Mutant, replace

BESIDE: Final = "tests/library/outbox/test_relay_beside_locks.py"
QUARANTINE: Final = "tests/library/outbox/test_relay_quarantine.py"
TAKEN: Final = "tests/library/sdk/test_taken_ids.py"


def _wait_for_every_lock() -> None:
    for module in (marks, upkeep):
        replace(module, "LOCK_WAIT", timedelta(minutes=10))


def _quarantine_nobody() -> None:
    def give_up(self: MarkWriter, tenant: str, unwritten: Any, error: Exception) -> None:
        raise error

    replace(MarkWriter, "_quarantine", give_up)


def _gather_without_end() -> None:
    replace(MarkWriter, "unwritten", lambda self, tenant: 0)


def _give_back_what_another_has() -> None:
    later = "and m.attempts = released.attempts"
    replace(queue, "_RELEASE", text(queue._RELEASE.text.replace(later, "")))


def _mark_what_another_has() -> None:
    replace(queue, "RELAY", Holder(completing(IS_PROCESSING_BY_KEY), failing(IS_PROCESSING_BY_KEY)))
    replace(working, "_COMPLETE", completing(IS_PROCESSING_BY_KEY))
    replace(working, "_FAIL", failing(IS_PROCESSING_BY_KEY))


def _believe_that_it_is_done() -> None:
    replace(taken_ids, "disagreement", lambda run, *workflow_types: None)
    replace(taken_ids, "_wrong_start", lambda run, started, job_input: None)


def _count_no_gathered_marks() -> None:
    replace(MarkWriter, "gathered", lambda self, tenant: 0)


def _claim_for_as_long_as_it_takes() -> None:
    original = Database.platform_session

    def without_limit(self: Database, reason: str, **limits: Any) -> Any:
        limits.pop("statement_timeout", None)
        return original(self, reason, **limits)

    replace(Database, "platform_session", without_limit)


def _take_lost_in_order() -> None:
    replace(upkeep, "_in_turn", list)


def _give_up_unasked() -> None:
    async def never(self: Upkeep, message: Any) -> bool:
        return False

    replace(Upkeep, "_was_started", never)


LOCK_FAULTS: Final = [
    Mutant(
        "gathered-marks-uncounted",
        "a tenant's unwritten marks count only after it is quarantined",
        (f"{BESIDE}::test_marks_are_counted_before_any_tenant_is_quarantined_too",),
        seed=_count_no_gathered_marks,
    ),
    Mutant(
        "claims-without-limit",
        "a claim has no time limit, so one tenant's rows can delay it",
        (f"{QUARANTINE}::test_a_claim_that_takes_long_for_one_tenant_delays_no_other",),
        seed=_claim_for_as_long_as_it_takes,
    ),
    Mutant(
        "lost-in-order",
        "all lost messages of one tenant come before another tenant's",
        (f"{QUARANTINE}::test_what_one_tenant_has_lost_delays_no_others",),
        seed=_take_lost_in_order,
    ),
    Mutant(
        "given-up-unasked",
        "a lost message becomes a dead letter though its workflow was started",
        (
            f"{QUARANTINE}::test_a_lost_message_whose_workflow_is_there_is_completed_and_no_dead_letter",
        ),
        seed=_give_up_unasked,
    ),
    Mutant(
        "marks-wait-for-a-lock",
        "a relay waits for the rows that one tenant has locked",
        (f"{BESIDE}::test_the_others_marks_are_written_and_a_locked_tenants_come_later",),
        seed=_wait_for_every_lock,
    ),
    Mutant(
        "marks-of-all-or-none",
        "a tenant whose rows are locked is not quarantined",
        (f"{BESIDE}::test_the_others_marks_are_written_and_a_locked_tenants_come_later",),
        seed=_quarantine_nobody,
    ),
    Mutant(
        "marks-without-end",
        "a tenant's messages are claimed however many of its marks are unwritten",
        (f"{BESIDE}::test_what_is_locked_as_it_is_started_does_not_pile_up_in_the_relay",),
        seed=_gather_without_end,
    ),
    Mutant(
        "given-back-late",
        "a relay releases a message that another one has claimed since",
        (f"{BESIDE}::test_what_is_given_back_late_stays_with_who_has_it_since",),
        seed=_give_back_what_another_has,
    ),
    Mutant(
        "marked-late",
        "a former holder marks a message that another one has claimed since",
        (
            f"{BESIDE}::test_what_a_relay_fails_late_stays_with_who_has_it_since",
            f"{BESIDE}::test_what_a_workflow_marks_late_stays_with_the_one_that_has_it_since",
        ),
        seed=_mark_what_another_has,
    ),
    Mutant(
        "taken-id-is-done",
        "a start whose id is taken counts as done, whatever run has it",
        (f"{TAKEN}::test_what_is_not_the_tenants_own_run_has_taken_the_id",),
        seed=_believe_that_it_is_done,
    ),
]
