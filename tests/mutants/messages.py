"""The mutants of messages: faults in which are released, and in whose they are."""

from __future__ import annotations

from typing import Any, Final

from temporalio.service import RPCStatusCode

from temporal_tenancy.outbox import work_off
from temporal_tenancy.outbox.marks import Marks
from temporal_tenancy.outbox.relay import admission, relay
from temporal_tenancy.sdk import lookups
from temporal_tenancy.ticks.fan_out import _outcomes as outcomes
from tests.mutants.mutant import Mutant, replace

RELAY: Final = "tests/library/outbox/test_relay.py"
REPLAY: Final = "tests/library/dead_letters/test_dead_letter_replay.py"
TOGETHER: Final = "tests/library/outbox/test_together.py"
CLAIMS: Final = "tests/library/outbox/test_fair_claims.py"


def _ignore_caps() -> None:
    replace(admission, "cap_of", lambda tenant, decision: None)


def _forget_what_was_decided() -> None:
    async def nothing(*_: object) -> dict[str, object]:
        return {}

    replace(admission, "decisions", nothing)


def _release_in_order_of_arrival() -> None:
    replace(relay, "_in_turn", list)


def _share_by_the_head() -> None:
    async def allowances(*args: Any, **options: Any) -> Any:
        found = await real(*args, **options)
        return {
            tenant: admission.Allowance(min(each.quota, 1), each.capped)
            for tenant, each in found.items()
        }

    real = admission.allowances
    replace(admission, "allowances", allowances)


def _keep_what_a_child_says_as_it_is() -> None:
    replace(outcomes, "storable", lambda text: text)


def _ask_for_no_run_by_any_id() -> None:
    replace(lookups, "UNKNOWN", (RPCStatusCode.NOT_FOUND,))


def _take_a_missing_namespace_for_a_missing_run() -> None:
    replace(lookups, "is_namespace_missing", lambda error: False)


def _fail_all_for_one() -> None:
    async def do_together(self: work_off._Work, messages: Any) -> None:
        taken = [self._read(message) for message in messages if not work_off._has_failed(message)]
        try:
            await self._call(taken)
        except Exception as error:
            for each in taken:
                await self.marks.add(self._failure(each.message, error))
        else:
            await self.marks.add(Marks(completed=[each.message for each in taken]))
        await self.do_each([message for message in messages if work_off._has_failed(message)])

    replace(work_off._Work, "do_together", do_together)


def _put_the_failed_among_others() -> None:
    replace(work_off, "_has_failed", lambda message: False)


def _blame_messages_for_the_database() -> None:
    for name in ("DatabaseUnreachable", "PoolExhausted", "PoolShareInUse"):
        replace(work_off, name, ArithmeticError)


MESSAGE_FAULTS: Final = [
    Mutant(
        "all-fail-for-one",
        "a message that cannot be handled fails all that are handled with it",
        (f"{TOGETHER}::test_what_is_bad_is_found_by_halves_and_is_alone_from_then_on",),
        seed=_fail_all_for_one,
    ),
    Mutant(
        "failed-among-others",
        "a message that has failed is handled together with others again",
        (f"{TOGETHER}::test_what_is_bad_is_found_by_halves_and_is_alone_from_then_on",),
        seed=_put_the_failed_among_others,
    ),
    Mutant(
        "blamed-for-the-database",
        "messages fail because the database is away",
        (f"{TOGETHER}::test_a_failure_of_the_database_is_of_no_message",),
        seed=_blame_messages_for_the_database,
    ),
    Mutant(
        "failures-kept-as-they-are",
        "a child's failure is written to the ledger unchanged, even with a NUL in it",
        (
            "tests/library/ticks/test_fan_out.py::test_whatever_a_failures_type_is_it_stops_no_other",
        ),
        seed=_keep_what_a_child_says_as_it_is,
    ),
    Mutant(
        "run-ids-believed",
        "a run id that a tenant's role made up stops every replay",
        (f"{REPLAY}::test_a_runs_id_that_a_tenants_role_has_made_up_is_one_that_is_not_known",),
        seed=_ask_for_no_run_by_any_id,
    ),
    Mutant(
        "namespaces-taken-for-runs",
        "a missing namespace counts as a run that was never started",
        (
            "tests/library/sdk/test_lookups.py"
            "::test_a_namespace_that_is_missing_says_nothing_of_what_was_in_it",
        ),
        seed=_take_a_missing_namespace_for_a_missing_run,
    ),
    Mutant(
        "caps-ignored",
        "a tenant's concurrency cap is ignored",
        (f"{RELAY}::test_a_tenants_cap_holds_its_messages_back_and_no_others",),
        seed=_ignore_caps,
    ),
    Mutant(
        "pauses-ignored",
        "a paused tenant's messages are released",
        (f"{RELAY}::test_a_paused_tenants_messages_wait_and_are_released_at_once",),
        seed=_forget_what_was_decided,
    ),
    Mutant(
        "released-in-order-of-arrival",
        "claimed messages are started in the order of their arrival",
        (f"{CLAIMS}::test_a_flood_of_one_tenant_lets_the_others_go_first",),
        seed=_release_in_order_of_arrival,
    ),
    Mutant(
        "weights-ignored",
        "every tenant gets the same share, whatever its plan",
        (f"{CLAIMS}::test_a_plan_of_five_times_the_weight_gets_five_times_the_share",),
        seed=_share_by_the_head,
    ),
    Mutant(
        "outbox-open-to-all",
        "the outbox's policies let every tenant's rows through",
        ("tests/isolation/test_catalogue.py::test_what_the_migrations_make_is_without_findings",),
        schema=(
            "alter policy tenant_isolation on tenancy.outbox_messages "
            "using (true) with check (true);"
            "alter policy tenant_access on tenancy.outbox_messages using (true) with check (true)"
        ),
    ),
    Mutant(
        "letters-open-to-all",
        "a tenant may read every tenant's dead letters",
        ("tests/isolation/test_catalogue.py::test_what_the_migrations_make_is_without_findings",),
        schema=(
            "alter policy tenant_isolation on tenancy.dead_letters using (true) with check (true);"
            "alter policy tenant_access on tenancy.dead_letters using (true) with check (true)"
        ),
    ),
]
