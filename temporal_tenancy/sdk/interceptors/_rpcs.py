"""Every RPC of the client's services, and how it is handled in a tenant's scope.

Interceptors see only some calls; the service sees every request. A test compares this table with
the SDK. An RPC that is missing here is refused in a tenant's scope.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final

from google.protobuf.message import Message

from temporal_tenancy.core.errors import TenantMismatch
from temporal_tenancy.core.scope import TenantScope
from temporal_tenancy.sdk import agreement
from temporal_tenancy.sdk.interceptors._hooks import Handling
from temporal_tenancy.sdk.list_filter import narrowed


@dataclass(frozen=True)
class Call:
    """A call by code in a tenant's scope."""

    scope: TenantScope
    namespace: str  # the client's
    rpc: str


# The first argument is the request, whose type differs per RPC.
Check = Callable[[Any, Call], None]


@dataclass(frozen=True)
class Rpc:
    """How an RPC is handled in a tenant's scope."""

    handling: Handling
    why: str
    checks: tuple[Check, ...] = ()


def admitted(service: str, request: Message, call: Call) -> Message:
    """Returns the request to send: a checked copy of `request`, which its sender cannot change.

    Args:
        service: the SDK's name of the service: "workflow", "operator", "test" or "health".
        request: the message that the tenant's code sends.
        call: the scope, namespace and name of the call.

    Raises:
        TenantMismatch: a tenant's code may not send this request.
    """
    tenant = call.scope.tenant_id
    rpc = RPCS.get(service, {}).get(call.rpc)
    if rpc is None or rpc.handling is Handling.REFUSES:
        why = (
            rpc.why
            if rpc is not None
            else "it is not one of the calls that a tenant's code may make"
        )
        raise TenantMismatch(f"{tenant} cannot call {call.rpc}: {why}.")
    if rpc.handling is Handling.EXEMPT:
        return request
    if request.DESCRIPTOR.name != request_name(call.rpc):
        raise TenantMismatch(f"{tenant} cannot call {call.rpc} with a {request.DESCRIPTOR.name}.")
    copy = type(request)()
    copy.CopyFrom(request)
    # A newer server may know fields that are not checked here.
    copy.DiscardUnknownFields()
    for check in rpc.checks:
        check(copy, call)
    return copy


def request_name(rpc: str) -> str:
    """Returns the name of the message that an RPC of the workflow service takes."""
    return "".join(word.capitalize() for word in rpc.split("_")) + "Request"


def _own(path: str) -> Check:
    """Returns a check that the id at `path` of the request is the tenant's own."""
    read = attrgetter(path)

    def check(request: Any, call: Call) -> None:
        agreement.check_same_owner(call.scope, read(request), what=f"{call.rpc} of")

    return check


def _own_namespace(request: Any, call: Call) -> None:
    if request.namespace != call.namespace:
        raise TenantMismatch(
            f"{call.scope.tenant_id} cannot {call.rpc} in the namespace {request.namespace!r}: "
            f"its workflows are in {call.namespace!r}."
        )


def _own_token(request: Any, call: Call) -> None:
    agreement.check_task_token(call.scope, request.task_token, what=f"{call.rpc} of")


def _own_attributes(request: Any, call: Call) -> None:
    agreement.check_indexed_fields(
        request.search_attributes.indexed_fields,
        {agreement.TENANT_ID.name: call.scope.tenant_id},
        f"{call.rpc} by {call.scope.tenant_id}",
    )


def _no_callbacks(request: Any, call: Call) -> None:
    if request.completion_callbacks:
        raise TenantMismatch(
            f"{call.scope.tenant_id} cannot {call.rpc} with completion callbacks: they may go to "
            "another tenant."
        )


def _own_action(request: Any, call: Call) -> None:
    if request.schedule.action.HasField("start_workflow"):
        started = request.schedule.action.start_workflow
        agreement.check_same_owner(call.scope, started.workflow_id, what=f"{call.rpc} of")
        _own_attributes(started, call)


def _own_operations(request: Any, call: Call) -> None:
    checks = {"start_workflow": _START, "update_workflow": _UPDATE}
    for operation in request.operations:
        kind = operation.WhichOneof("operation")
        if kind not in checks:
            raise TenantMismatch(f"{call.scope.tenant_id} cannot {call.rpc} with {kind}.")
        for check in checks[kind].checks:
            check(getattr(operation, kind), call)


def _narrow(request: Any, call: Call) -> None:
    request.query = narrowed(request.query, call.scope.tenant_id)


def _checks(why: str, *checks: Check) -> Rpc:
    return Rpc(Handling.CHECKS, why, (_own_namespace, *checks))


def _refuses(why: str, rpcs: str) -> dict[str, Rpc]:
    return dict.fromkeys(rpcs.split(), Rpc(Handling.REFUSES, why))


def _exempt(why: str, rpcs: str) -> dict[str, Rpc]:
    return dict.fromkeys(rpcs.split(), Rpc(Handling.EXEMPT, why))


_OWN: Final = "the workflow is the tenant's own"
_START: Final = _checks(
    "the workflow's id and TenantId are the tenant's own, and there are no callbacks",
    _own("workflow_id"),
    _own_attributes,
    _no_callbacks,
)
_SIGNAL_WITH_START: Final = _checks(
    "the workflow's id and TenantId are the tenant's own", _own("workflow_id"), _own_attributes
)
_UPDATE: Final = _checks(_OWN, _own("workflow_execution.workflow_id"))
_BY_EXECUTION: Final = _checks(_OWN, _own("execution.workflow_id"))
_BY_WORKFLOW: Final = _checks(_OWN, _own("workflow_id"))
_BY_TOKEN: Final = _checks("the task token belongs to the tenant's own workflow", _own_token)
_LIST: Final = _checks("the filter is narrowed to the tenant", _narrow)
_SCHEDULE: Final = _checks("the schedule is the tenant's own", _own("schedule_id"))
_SCHEDULE_ACTION: Final = _checks(
    "the schedule and the workflow that it starts are the tenant's own",
    _own("schedule_id"),
    _own_action,
    _own_attributes,
)

WORKFLOW_SERVICE: Final[dict[str, Rpc]] = {
    "start_workflow_execution": _START,
    "signal_with_start_workflow_execution": _SIGNAL_WITH_START,
    "execute_multi_operation": _checks("each operation is checked", _own_operations),
    "update_workflow_execution": _UPDATE,
    "signal_workflow_execution": _checks(_OWN, _own("workflow_execution.workflow_id")),
    "request_cancel_workflow_execution": _checks(_OWN, _own("workflow_execution.workflow_id")),
    "terminate_workflow_execution": _checks(_OWN, _own("workflow_execution.workflow_id")),
    "reset_workflow_execution": _checks(_OWN, _own("workflow_execution.workflow_id")),
    "poll_workflow_execution_update": _checks(
        _OWN, _own("update_ref.workflow_execution.workflow_id")
    ),
    "query_workflow": _BY_EXECUTION,
    "describe_workflow_execution": _BY_EXECUTION,
    "get_workflow_execution_history": _BY_EXECUTION,
    "get_workflow_execution_history_reverse": _BY_EXECUTION,
    "list_workflow_executions": _LIST,
    "scan_workflow_executions": _LIST,
    "count_workflow_executions": _LIST,
    "record_activity_task_heartbeat": _BY_TOKEN,
    "respond_activity_task_completed": _BY_TOKEN,
    "respond_activity_task_failed": _BY_TOKEN,
    "respond_activity_task_canceled": _BY_TOKEN,
    "record_activity_task_heartbeat_by_id": _BY_WORKFLOW,
    "respond_activity_task_completed_by_id": _BY_WORKFLOW,
    "respond_activity_task_failed_by_id": _BY_WORKFLOW,
    "respond_activity_task_canceled_by_id": _BY_WORKFLOW,
    "create_schedule": _SCHEDULE_ACTION,
    "update_schedule": _SCHEDULE_ACTION,
    "patch_schedule": _SCHEDULE,
    "delete_schedule": _SCHEDULE,
    "describe_schedule": _SCHEDULE,
    "list_schedule_matching_times": _SCHEDULE,
    **_exempt("says what the server supports", "get_system_info"),
    **_refuses(
        "it also lists what belongs to other tenants",
        """
        list_open_workflow_executions list_closed_workflow_executions
        list_archived_workflow_executions list_schedules count_schedules
        """,
    ),
    **_refuses(
        "runs are kept for the namespace's retention",
        "delete_workflow_execution",
    ),
    **_refuses(
        "only the platform pauses or changes activities and workflows, as for a suspension",
        """
        pause_activity unpause_activity reset_activity update_activity_options
        pause_workflow_execution unpause_workflow_execution update_workflow_execution_options
        poll_workflow_execution_time_skipping
        """,
    ),
    **_refuses(
        "it acts on many workflows at once",
        """
        start_batch_operation stop_batch_operation describe_batch_operation list_batch_operations
        create_workflow_rule delete_workflow_rule describe_workflow_rule list_workflow_rules
        trigger_workflow_rule
        """,
    ),
    **_refuses(
        "a standalone activity has no workflow that names its tenant",
        """
        start_activity_execution describe_activity_execution poll_activity_execution
        list_activity_executions count_activity_executions delete_activity_execution
        request_cancel_activity_execution terminate_activity_execution pause_activity_execution
        unpause_activity_execution reset_activity_execution update_activity_execution_options
        """,
    ),
    **_refuses(
        "tenancy is not carried over Nexus",
        """
        start_nexus_operation_execution describe_nexus_operation_execution
        poll_nexus_operation_execution list_nexus_operation_executions
        count_nexus_operation_executions delete_nexus_operation_execution
        request_cancel_nexus_operation_execution terminate_nexus_operation_execution
        """,
    ),
    **_refuses(
        "only workers call it, and they serve all tenants",
        """
        poll_workflow_task_queue poll_activity_task_queue poll_nexus_task_queue
        respond_workflow_task_completed respond_workflow_task_failed respond_query_task_completed
        respond_nexus_task_completed respond_nexus_task_failed reset_sticky_task_queue
        record_worker_heartbeat shutdown_worker list_workers count_workers describe_worker
        fetch_worker_config update_worker_config
        """,
    ),
    **_refuses(
        "task queues serve all tenants",
        """
        describe_task_queue list_task_queue_partitions update_task_queue_config
        get_worker_build_id_compatibility update_worker_build_id_compatibility
        get_worker_task_reachability get_worker_versioning_rules update_worker_versioning_rules
        """,
    ),
    **_refuses(
        "deployments concern workers, which serve all tenants",
        """
        create_worker_deployment create_worker_deployment_version delete_worker_deployment
        delete_worker_deployment_version describe_worker_deployment
        describe_worker_deployment_version list_worker_deployments
        set_worker_deployment_current_version set_worker_deployment_manager
        set_worker_deployment_ramping_version update_worker_deployment_version_compute_config
        update_worker_deployment_version_metadata validate_worker_deployment_version_compute_config
        describe_deployment list_deployments get_current_deployment set_current_deployment
        get_deployment_reachability
        """,
    ),
    **_refuses(
        "namespaces and the cluster belong to the platform",
        """
        register_namespace describe_namespace list_namespaces update_namespace deprecate_namespace
        get_cluster_info get_search_attributes
        """,
    ),
}

OPERATOR_SERVICE: Final = _refuses(
    "namespaces and the cluster belong to the platform",
    """
    add_search_attributes list_search_attributes remove_search_attributes delete_namespace
    add_or_update_remote_cluster list_clusters remove_remote_cluster create_nexus_endpoint
    get_nexus_endpoint list_nexus_endpoints update_nexus_endpoint delete_nexus_endpoint
    """,
)

TEST_SERVICE: Final = _exempt(
    "turns the clock of a test server, which serves only the tests",
    """
    get_current_time lock_time_skipping unlock_time_skipping sleep sleep_until
    unlock_time_skipping_with_sleep
    """,
)

HEALTH_SERVICE: Final = _exempt("says whether the server is up", "check")

# By the SDK's names of its services. Temporal Cloud's service is missing, so all of it is refused:
# it manages accounts, which belong to no tenant.
RPCS: Final[dict[str, dict[str, Rpc]]] = {
    "workflow": WORKFLOW_SERVICE,
    "operator": OPERATOR_SERVICE,
    "test": TEST_SERVICE,
    "health": HEALTH_SERVICE,
}
