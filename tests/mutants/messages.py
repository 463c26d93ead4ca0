"""The mutants of messages: faults in what is released, and in how often it has its effect."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncSession

from temporal_tenancy.jobs import registry
from temporal_tenancy.outbox.retries import RetryLadder
from temporal_tenancy.relay import admission, queue, relay, upkeep
from temporal_tenancy.relay.messages import Message
from tests.mutants.mutant import Mutant, replace

RELAY: Final = "tests/integration/test_relay.py"
CLAIMS: Final = "tests/integration/test_fair_claims.py"


def _remember_events_of_all_tenants() -> None:
    seen: set[tuple[str, str]] = set()

    async def once(session: AsyncSession, consumer: str, event_id: str) -> bool:
        new = (consumer, event_id) not in seen
        seen.add((consumer, event_id))
        return new

    # Where it is used it is known by its own name; that is loaded by now, as pytest wants it.
    from tests.integration import test_fair_claims

    replace(test_fair_claims, "once", once)


def _ignore_caps() -> None:
    replace(admission, "cap_of", lambda tenant, decision: None)


def _hold_nothing_back() -> None:
    replace(admission, "held_back", lambda tenant, decision: None)


def _release_in_order_of_arrival() -> None:
    replace(relay, "_in_turn", list)


def _believe_every_payload() -> None:
    replace(relay, "job_of_message", lambda message, tenant: (registry[message.job], None))


def _leave_what_is_lost() -> None:
    async def none(self: upkeep.Upkeep) -> AsyncIterator[Message]:
        return
        yield

    replace(upkeep.Upkeep, "lost", none)


def _count_no_attempts() -> None:
    replace(RetryLadder, "wait_after", lambda self, attempts: self.unit)


def _share_by_the_head() -> None:
    async def allowances(*args: Any, **options: Any) -> Any:
        found = await real(*args, **options)
        return {
            tenant: admission.Allowance(min(each.quota, 1), each.capped)
            for tenant, each in found.items()
        }

    real = admission.allowances
    replace(admission, "allowances", allowances)


def _keep_every_slot() -> None:
    async def free(*_: object) -> None:
        return None

    replace(queue, "free_slots", free)


MESSAGE_FAULTS: Final = [
    Mutant(
        "events-of-all-tenants",
        "an event of one tenant keeps another's from its effect",
        (f"{CLAIMS}::test_an_event_is_dealt_with_once_by_each_consumer_of_each_tenant",),
        seed=_remember_events_of_all_tenants,
    ),
    Mutant(
        "caps-ignored",
        "a tenant's concurrency cap is not heeded",
        (f"{RELAY}::test_a_tenants_cap_holds_its_messages_back_and_no_others",),
        seed=_ignore_caps,
    ),
    Mutant(
        "nothing-held-back",
        "messages of suspended and paused tenants are released",
        (
            f"{RELAY}::test_a_paused_tenants_messages_wait_and_are_released_at_once",
            f"{RELAY}::test_a_suspended_tenants_messages_wait_without_an_attempt",
        ),
        seed=_hold_nothing_back,
    ),
    Mutant(
        "released-in-order-of-arrival",
        "what is claimed is started in the order it came in",
        (f"{CLAIMS}::test_a_flood_of_one_tenant_lets_the_others_go_first",),
        seed=_release_in_order_of_arrival,
    ),
    Mutant(
        "weights-ignored",
        "every tenant has the same share, whatever its plan",
        (f"{CLAIMS}::test_a_plan_of_five_times_the_weight_gets_five_times_the_share",),
        seed=_share_by_the_head,
    ),
    Mutant(
        "payload-believed",
        "a message is released without a look at what it holds",
        (f"{RELAY}::test_a_message_that_can_never_run_is_a_dead_letter_at_once",),
        seed=_believe_every_payload,
    ),
    Mutant(
        "lost-for-good",
        "what a dead relay had in hand stays there",
        (f"{RELAY}::test_what_a_relay_lost_is_started_by_another_after_its_lease",),
        seed=_leave_what_is_lost,
    ),
    Mutant(
        "attempts-without-end",
        "a message is tried for ever",
        (
            f"{RELAY}::test_attempts_that_fail_wait_twice_as_long_each_time_and_then_are_a_dead_letter",
        ),
        seed=_count_no_attempts,
    ),
    Mutant(
        "slots-kept",
        "a slot is not free again when its workflow has ended",
        (f"{RELAY}::test_a_tenants_cap_holds_its_messages_back_and_no_others",),
        seed=_keep_every_slot,
    ),
    Mutant(
        "outbox-open-to-all",
        "the outbox's policies let every tenant's rows through",
        ("tests/isolation/test_catalogue.py::test_what_the_migrations_make_is_without_findings",),
        schema=(
            "alter policy tenant_isolation on outbox_messages using (true) with check (true);"
            "alter policy tenant_access on outbox_messages using (true) with check (true)"
        ),
    ),
    Mutant(
        "letters-open-to-all",
        "a tenant may read every tenant's dead letters",
        ("tests/isolation/test_catalogue.py::test_what_the_migrations_make_is_without_findings",),
        schema=(
            "alter policy tenant_isolation on dead_letters using (true) with check (true);"
            "alter policy tenant_access on dead_letters using (true) with check (true)"
        ),
    ),
]
