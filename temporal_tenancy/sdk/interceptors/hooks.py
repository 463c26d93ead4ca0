"""Every interceptor hook of the SDK, and what tenancy does in it.

A test compares this table with the SDK, so that a hook which a new version brings is either
handled or exempted here, with a reason, before that version is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from temporalio import client, worker

from temporal_tenancy.sdk.interceptors.activity_inbound import TenancyActivityInbound
from temporal_tenancy.sdk.interceptors.client_outbound import TenancyClientOutbound
from temporal_tenancy.sdk.interceptors.nexus_inbound import TenancyNexusInbound
from temporal_tenancy.sdk.interceptors.workflow_inbound import TenancyWorkflowInbound
from temporal_tenancy.sdk.interceptors.workflow_outbound import TenancyWorkflowOutbound


class Handling(StrEnum):
    """What tenancy does in a hook."""

    CARRIES = "carries"  # writes the scope into what leaves
    CHECKS = "checks"  # compares what arrives, or what is named, with the scope
    REFUSES = "refuses"  # the hop cannot carry a tenant, so it is not taken
    EXEMPT = "exempt"  # tenancy has no part in it, for the reason given


@dataclass(frozen=True)
class Hook:
    """One method of one of the SDK's interceptors."""

    handling: Handling
    why: str


_STANDALONE = "acts on a standalone activity, and none is started: start_activity refuses"
_NEXUS = "acts on a Nexus operation, and none is started: start_nexus_operation refuses"
_VERSIONING = "is about workers, which serve all tenants"
_ASYNC = "the workflow, by its id or by the task token, is the tenant's own"
_INFO = "reads what the SDK knows of the running task itself"

_CARRIES, _CHECKS = Handling.CARRIES, Handling.CHECKS
_REFUSES, _EXEMPT = Handling.REFUSES, Handling.EXEMPT

CLIENT: Final = {
    "start_workflow": Hook(_CARRIES, "also for signal-with-start"),
    "start_update_with_start_workflow": Hook(_CARRIES, "in both halves"),
    "signal_workflow": Hook(_CARRIES, "the sender's scope"),
    "query_workflow": Hook(_CARRIES, "the sender's scope"),
    "start_workflow_update": Hook(_CARRIES, "the sender's scope"),
    "create_schedule": Hook(_CARRIES, "in the action: its runs pass no client"),
    "update_schedule": Hook(_CARRIES, "in the action that the updater returns"),
    "cancel_workflow": Hook(_CHECKS, "the id is the tenant's own"),
    "terminate_workflow": Hook(_CHECKS, "the id is the tenant's own"),
    "describe_workflow": Hook(_CHECKS, "the id is the tenant's own"),
    "fetch_workflow_history_events": Hook(_CHECKS, "the id is the tenant's own"),
    "list_workflows": Hook(_CHECKS, "narrowed to the tenant"),
    "count_workflows": Hook(_CHECKS, "narrowed to the tenant"),
    "heartbeat_async_activity": Hook(_CHECKS, _ASYNC),
    "complete_async_activity": Hook(_CHECKS, _ASYNC),
    "fail_async_activity": Hook(_CHECKS, _ASYNC),
    "report_cancellation_async_activity": Hook(_CHECKS, _ASYNC),
    "backfill_schedule": Hook(_CHECKS, "the schedule is the tenant's own"),
    "delete_schedule": Hook(_CHECKS, "the schedule is the tenant's own"),
    "describe_schedule": Hook(_CHECKS, "the schedule is the tenant's own"),
    "pause_schedule": Hook(_CHECKS, "the schedule is the tenant's own"),
    "unpause_schedule": Hook(_CHECKS, "the schedule is the tenant's own"),
    "trigger_schedule": Hook(_CHECKS, "the schedule is the tenant's own"),
    "list_schedules": Hook(_REFUSES, "in a tenant's scope: they are not all its own"),
    "start_activity": Hook(_REFUSES, "a standalone activity has no workflow to agree with"),
    "start_nexus_operation": Hook(_REFUSES, "Nexus headers are not the workflow's"),
    "cancel_activity": Hook(_EXEMPT, _STANDALONE),
    "terminate_activity": Hook(_EXEMPT, _STANDALONE),
    "pause_activity": Hook(_EXEMPT, _STANDALONE),
    "unpause_activity": Hook(_EXEMPT, _STANDALONE),
    "update_activity_options": Hook(_EXEMPT, _STANDALONE),
    "describe_activity": Hook(_EXEMPT, _STANDALONE),
    "list_activities": Hook(_EXEMPT, _STANDALONE),
    "count_activities": Hook(_EXEMPT, _STANDALONE),
    "describe_nexus_operation": Hook(_EXEMPT, _NEXUS),
    "get_nexus_operation_result": Hook(_EXEMPT, _NEXUS),
    "cancel_nexus_operation": Hook(_EXEMPT, _NEXUS),
    "terminate_nexus_operation": Hook(_EXEMPT, _NEXUS),
    "list_nexus_operations": Hook(_EXEMPT, _NEXUS),
    "count_nexus_operations": Hook(_EXEMPT, _NEXUS),
    "update_worker_build_id_compatibility": Hook(_EXEMPT, _VERSIONING),
    "get_worker_build_id_compatibility": Hook(_EXEMPT, _VERSIONING),
    "get_worker_task_reachability": Hook(_EXEMPT, _VERSIONING),
}

WORKFLOW_INBOUND: Final = {
    "init": Hook(_CHECKS, "the scope is made here, from an id that the guard has checked"),
    "execute_workflow": Hook(_CARRIES, "enters the scope; the guard has checked the start"),
    "handle_signal": Hook(_CHECKS, "drops a foreign or malformed signal, counted and logged"),
    "handle_query": Hook(_CHECKS, "a foreign query is an error"),
    "handle_update_validator": Hook(_CHECKS, "a foreign update is rejected"),
    "handle_update_handler": Hook(_CHECKS, "for a handler that has no validator"),
}

WORKFLOW_OUTBOUND: Final = {
    "start_activity": Hook(_CARRIES, "each attempt has it"),
    "start_local_activity": Hook(_CARRIES, "each attempt has it"),
    "start_child_workflow": Hook(_CARRIES, "with its own fairness key and search attributes"),
    "signal_child_workflow": Hook(_CARRIES, "and refuses another tenant's"),
    "signal_external_workflow": Hook(_CARRIES, "and refuses another tenant's"),
    "continue_as_new": Hook(_CARRIES, "the server hands no header on"),
    "start_nexus_operation": Hook(_REFUSES, "Nexus headers are not the workflow's"),
    "start_system_nexus_operation": Hook(_REFUSES, "Nexus headers are not the workflow's"),
    "start_signal_with_start_workflow": Hook(_REFUSES, "goes over Nexus"),
    "info": Hook(_EXEMPT, _INFO),
}

ACTIVITY_INBOUND: Final = {
    "execute_activity": Hook(_CHECKS, "agreement, then the tenant's state, then the scope"),
    "init": Hook(_EXEMPT, "nothing leaves an activity but its heartbeats"),
}

ACTIVITY_OUTBOUND: Final = {
    "info": Hook(_EXEMPT, _INFO),
    "heartbeat": Hook(_EXEMPT, "goes to the running attempt itself"),
}

NEXUS_INBOUND: Final = {
    "execute_nexus_operation_start": Hook(_REFUSES, "Nexus headers are not the workflow's"),
    "execute_nexus_operation_cancel": Hook(_REFUSES, "Nexus headers are not the workflow's"),
}

# The SDK's class, ours (None: we have none, all its hooks are exempt), and its hooks.
HOOKS: Final[list[tuple[type, type | None, dict[str, Hook]]]] = [
    (client.OutboundInterceptor, TenancyClientOutbound, CLIENT),
    (worker.WorkflowInboundInterceptor, TenancyWorkflowInbound, WORKFLOW_INBOUND),
    (worker.WorkflowOutboundInterceptor, TenancyWorkflowOutbound, WORKFLOW_OUTBOUND),
    (worker.ActivityInboundInterceptor, TenancyActivityInbound, ACTIVITY_INBOUND),
    (worker.ActivityOutboundInterceptor, None, ACTIVITY_OUTBOUND),
    (worker.NexusOperationInboundInterceptor, TenancyNexusInbound, NEXUS_INBOUND),
]
