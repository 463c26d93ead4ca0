"""Every interceptor hook of the SDK, and what tenancy does in it.

A test compares this table with the SDK: a hook that is new in a version must be handled here, or
exempted with a reason, before that version is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from temporalio import client, worker

from temporal_tenancy.sdk.interceptors._activity_inbound import TenancyActivityInbound
from temporal_tenancy.sdk.interceptors._client_outbound import TenancyClientOutbound
from temporal_tenancy.sdk.interceptors._nexus_inbound import TenancyNexusInbound
from temporal_tenancy.sdk.interceptors._workflow_inbound import TenancyWorkflowInbound
from temporal_tenancy.sdk.interceptors._workflow_outbound import TenancyWorkflowOutbound


class Handling(StrEnum):
    """What tenancy does in a hook."""

    CARRIES = "carries"  # writes the scope into the outgoing request
    CHECKS = "checks"  # compares what arrives, or the id that is named, with the scope
    REFUSES = "refuses"  # raises, because the hop cannot carry a tenant
    EXEMPT = "exempt"  # does nothing, for the reason given


@dataclass(frozen=True)
class Hook:
    """One method of one of the SDK's interceptors, and why it is handled as it is."""

    handling: Handling
    why: str


_STANDALONE = "acts on a standalone activity, and start_activity refuses to start one"
_NEXUS = "acts on a Nexus operation, and start_nexus_operation refuses to start one"
_VERSIONING = "concerns workers, which serve all tenants"
_ASYNC = "the workflow that the id or task token names is the tenant's own"
_INFO = "reads what the SDK knows about the running task"

_CARRIES, _CHECKS = Handling.CARRIES, Handling.CHECKS
_REFUSES, _EXEMPT = Handling.REFUSES, Handling.EXEMPT

CLIENT: Final = {
    "start_workflow": Hook(_CARRIES, "also for signal-with-start"),
    "start_update_with_start_workflow": Hook(_CARRIES, "in both halves"),
    "signal_workflow": Hook(_CARRIES, "the sender's scope"),
    "query_workflow": Hook(_CARRIES, "the sender's scope"),
    "start_workflow_update": Hook(_CARRIES, "the sender's scope"),
    "create_schedule": Hook(_CARRIES, "in the action, since no client starts its runs"),
    "update_schedule": Hook(_CARRIES, "in the action that the updater returns"),
    "cancel_workflow": Hook(_CHECKS, "the id is the tenant's own"),
    "terminate_workflow": Hook(_CHECKS, "the id is the tenant's own"),
    "describe_workflow": Hook(_CHECKS, "the id is the tenant's own"),
    "fetch_workflow_history_events": Hook(_CHECKS, "the id is the tenant's own"),
    "list_workflows": Hook(_CHECKS, "narrows the filter to the tenant"),
    "count_workflows": Hook(_CHECKS, "narrows the filter to the tenant"),
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
    "list_schedules": Hook(_REFUSES, "in a tenant's scope: it lists other tenants' too"),
    "start_activity": Hook(_REFUSES, "a standalone activity has no workflow to agree with"),
    "start_nexus_operation": Hook(_REFUSES, "Nexus has its own headers"),
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
    "init": Hook(_CHECKS, "makes the scope from the id, which the guard then checks"),
    "execute_workflow": Hook(_CARRIES, "enters the scope; the guard has checked the start"),
    "handle_signal": Hook(_CHECKS, "drops a foreign or malformed signal, counted and logged"),
    "handle_query": Hook(_CHECKS, "a foreign query is an error"),
    "handle_update_validator": Hook(_CHECKS, "a foreign update is rejected"),
    "handle_update_handler": Hook(_CHECKS, "again, for a handler without a validator"),
}

WORKFLOW_OUTBOUND: Final = {
    "start_activity": Hook(_CARRIES, "to each attempt"),
    "start_local_activity": Hook(_CARRIES, "to each attempt"),
    "start_child_workflow": Hook(_CARRIES, "with the child's own fairness key and attributes"),
    "signal_child_workflow": Hook(_CARRIES, "and refuses another tenant's"),
    "signal_external_workflow": Hook(_CARRIES, "and refuses another tenant's"),
    "continue_as_new": Hook(_CARRIES, "since the server passes no header on"),
    "start_nexus_operation": Hook(_REFUSES, "Nexus has its own headers"),
    "start_system_nexus_operation": Hook(_REFUSES, "Nexus has its own headers"),
    "start_signal_with_start_workflow": Hook(_REFUSES, "it goes over Nexus"),
    "info": Hook(_EXEMPT, _INFO),
}

ACTIVITY_INBOUND: Final = {
    "execute_activity": Hook(_CHECKS, "agreement, then the tenant's state, then the scope"),
    "init": Hook(_EXEMPT, "only heartbeats leave an activity"),
}

ACTIVITY_OUTBOUND: Final = {
    "info": Hook(_EXEMPT, _INFO),
    "heartbeat": Hook(_EXEMPT, "can only be the running attempt's"),
}

NEXUS_INBOUND: Final = {
    "execute_nexus_operation_start": Hook(_REFUSES, "Nexus has its own headers"),
    "execute_nexus_operation_cancel": Hook(_REFUSES, "Nexus has its own headers"),
}

# The SDK's class, ours (None if all its hooks are exempt), and its hooks.
HOOKS: Final[list[tuple[type, type | None, dict[str, Hook]]]] = [
    (client.OutboundInterceptor, TenancyClientOutbound, CLIENT),
    (worker.WorkflowInboundInterceptor, TenancyWorkflowInbound, WORKFLOW_INBOUND),
    (worker.WorkflowOutboundInterceptor, TenancyWorkflowOutbound, WORKFLOW_OUTBOUND),
    (worker.ActivityInboundInterceptor, TenancyActivityInbound, ACTIVITY_INBOUND),
    (worker.ActivityOutboundInterceptor, None, ACTIVITY_OUTBOUND),
    (worker.NexusOperationInboundInterceptor, TenancyNexusInbound, NEXUS_INBOUND),
]
