"""The mutants of hops: one for each hook that the hook table says is handled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from temporalio.worker import WorkflowOutboundInterceptor

from temporal_tenancy.sdk.interceptors._hooks import HOOKS, Handling, Hook
from temporal_tenancy.sdk.interceptors._workflow_inbound import TenancyWorkflowInbound
from tests.mutants.mutant import Mutant, replace

HOPS: Final = "tests/library/sdk/test_hops.py"
LISTS: Final = "tests/library/sdk/test_list_filters.py"
MESSAGES: Final = "tests/library/sdk/test_messages.py"
SCHEDULES: Final = "tests/library/ticks/test_schedules.py"
STARTS: Final = "tests/library/sdk/test_starts.py"
REFUSED: Final = "tests/library/sdk/test_refused_hops.py"

_REACH: Final = f"{MESSAGES}::test_a_tenants_code_cannot_reach_another_tenants_workflow"
_COMPLETE: Final = f"{MESSAGES}::test_a_tenants_code_cannot_complete_another_tenants_activity"
_SCHEDULE: Final = f"{SCHEDULES}::test_a_tenants_code_reaches_no_other_tenants_schedule"
_EVERY_HOP: Final = f"{HOPS}::test_every_hop_has_the_tenant_also_after_continue_as_new"
_STRAY: Final = f"{HOPS}::test_no_hop_leaves_the_tenant"
_REFUSED: Final = f"{REFUSED}::test_a_hop_that_cannot_carry_a_tenant_is_not_taken"

# The tests that should fail when this hook is forgotten.
KILLERS: Final[dict[str, tuple[str, ...]]] = {
    "ClientOutbound.start_workflow": (
        f"{STARTS}::test_the_client_refuses_a_wrong_start_before_it_is_sent",
        f"{HOPS}::test_fairness_key_weight_and_priority_are_the_tenants_the_plans_and_the_jobs",
    ),
    "ClientOutbound.start_update_with_start_workflow": (
        f"{STARTS}::test_an_update_with_start_carries_the_tenant",
        f"{STARTS}::test_a_wrong_update_with_start_is_refused_before_it_is_sent",
    ),
    "ClientOutbound.signal_workflow": (f"{_REACH}[signal]",),
    "ClientOutbound.query_workflow": (f"{_REACH}[query]",),
    "ClientOutbound.start_workflow_update": (f"{_REACH}[update]",),
    "ClientOutbound.create_schedule": (
        f"{SCHEDULES}::test_a_run_of_a_schedule_made_in_a_tenants_scope_is_that_tenants",
    ),
    "ClientOutbound.update_schedule": (
        f"{SCHEDULES}::test_an_update_keeps_the_stamps_and_a_new_action_gets_its_own",
    ),
    "ClientOutbound.cancel_workflow": (f"{_REACH}[cancel]",),
    "ClientOutbound.terminate_workflow": (f"{_REACH}[terminate]",),
    "ClientOutbound.describe_workflow": (f"{_REACH}[describe]",),
    "ClientOutbound.fetch_workflow_history_events": (f"{_REACH}[history]",),
    # The request is narrowed once more when it is sent, but the scope may have ended by then.
    "ClientOutbound.list_workflows": (
        f"{LISTS}::test_a_list_that_was_asked_for_in_a_tenants_scope_stays_in_it",
    ),
    "ClientOutbound.count_workflows": (
        "tests/library/sdk/test_list_filter.py::test_a_count_is_narrowed_before_it_is_passed_on",
    ),
    "ClientOutbound.heartbeat_async_activity": (f"{_COMPLETE}[heartbeat]",),
    "ClientOutbound.complete_async_activity": (f"{_COMPLETE}[complete]",),
    "ClientOutbound.fail_async_activity": (f"{_COMPLETE}[fail]",),
    "ClientOutbound.report_cancellation_async_activity": (f"{_COMPLETE}[report_cancellation]",),
    "ClientOutbound.backfill_schedule": (f"{_SCHEDULE}[backfill]",),
    "ClientOutbound.delete_schedule": (f"{_SCHEDULE}[delete]",),
    "ClientOutbound.describe_schedule": (f"{_SCHEDULE}[describe]",),
    "ClientOutbound.pause_schedule": (f"{_SCHEDULE}[pause]",),
    "ClientOutbound.unpause_schedule": (f"{_SCHEDULE}[unpause]",),
    "ClientOutbound.trigger_schedule": (f"{_SCHEDULE}[trigger]",),
    "ClientOutbound.list_schedules": (
        f"{SCHEDULES}::test_a_tenants_code_neither_makes_nor_lists_others_schedules",
    ),
    "ClientOutbound.start_activity": (f"{HOPS}::test_a_standalone_activity_is_refused",),
    "ClientOutbound.start_nexus_operation": (_REFUSED,),
    "WorkflowInbound.init": (_EVERY_HOP,),
    "WorkflowInbound.execute_workflow": (_EVERY_HOP,),
    "WorkflowInbound.handle_signal": (
        f"{MESSAGES}::test_a_signal_from_another_tenant_is_dropped_and_logged",
    ),
    "WorkflowInbound.handle_query": (f"{MESSAGES}::test_a_query_from_another_tenant_is_an_error",),
    "WorkflowInbound.handle_update_validator": (
        f"{MESSAGES}::test_an_update_from_another_tenant_is_rejected_and_leaves_no_event",
    ),
    "WorkflowInbound.handle_update_handler": (
        f"{MESSAGES}::test_an_update_to_a_handler_set_late_from_another_tenant_runs_nothing",
    ),
    "WorkflowOutbound.start_activity": (_EVERY_HOP,),
    "WorkflowOutbound.start_local_activity": (_EVERY_HOP,),
    "WorkflowOutbound.start_child_workflow": (
        f"{HOPS}::test_a_child_has_its_own_fairness_key_and_not_its_parents",
    ),
    "WorkflowOutbound.signal_child_workflow": (
        f"{HOPS}::test_what_a_workflow_sends_says_whose_it_is",
    ),
    "WorkflowOutbound.signal_external_workflow": (
        f"{HOPS}::test_what_a_workflow_sends_says_whose_it_is",
        f"{_STRAY}[signal]",
    ),
    "WorkflowOutbound.continue_as_new": (
        f"{HOPS}::test_what_a_workflow_sends_says_whose_it_is",
        f"{_STRAY}[continue as new]",
    ),
    "WorkflowOutbound.start_nexus_operation": (_REFUSED,),
    "WorkflowOutbound.start_system_nexus_operation": (_REFUSED,),
    "WorkflowOutbound.start_signal_with_start_workflow": (_REFUSED,),
    "ActivityInbound.execute_activity": (_EVERY_HOP,),
    "NexusInbound.execute_nexus_operation_start": (_REFUSED,),
    "NexusInbound.execute_nexus_operation_cancel": (_REFUSED,),
}


def _init_forgotten(self: TenancyWorkflowInbound, outbound: WorkflowOutboundInterceptor) -> None:
    # The SDK's own method would leave attributes unset, and every workflow task would crash.
    self.job = self.refusal = None
    self.next.init(outbound)


_FORGOTTEN: Final[dict[str, Any]] = {"WorkflowInbound.init": _init_forgotten}


def handled() -> dict[str, tuple[type, type, Hook]]:
    """Returns the SDK's class, ours and the table's entry for each hook that is not exempt."""
    return {
        f"{own.__name__.removeprefix('Tenancy')}.{name}": (sdk_class, own, hook)
        for sdk_class, own, table in HOOKS
        for name, hook in table.items()
        if own is not None and hook.handling is not Handling.EXEMPT
    }


def _forgetting(hook: str, sdk_class: type, own: type) -> Callable[[], None]:
    name = hook.rpartition(".")[2]

    def forget() -> None:
        replace(own, name, _FORGOTTEN.get(hook) or getattr(sdk_class, name))

    return forget


def hop_mutants() -> list[Mutant]:
    """Returns a mutant for each handled hook, in which the SDK's own method replaces ours."""
    return [
        Mutant(
            name=name,
            what=f"no longer {hook.handling}: {hook.why}",
            killers=KILLERS.get(name, ()),
            seed=_forgetting(name, sdk_class, own),
        )
        for name, (sdk_class, own, hook) in handled().items()
    ]
