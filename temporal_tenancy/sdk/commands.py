"""What workflow code asks the server for: a tenant's names nothing that is not that tenant's.

Interceptors see most commands, but not all of them, and not of every type. Here are the commands
themselves, after the code and every interceptor. A test compares the table with the SDK.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from temporal_tenancy.core.errors import HopRefused, TenancyError, TenantMismatch
from temporal_tenancy.core.identifiers import WorkflowId
from temporal_tenancy.core.scope import TenantScope
from temporal_tenancy.sdk import agreement
from temporal_tenancy.sdk._private import WorkflowCommand


@dataclass(frozen=True)
class Sender:
    """The tenant's workflow whose commands are looked at."""

    id: WorkflowId
    namespace: str

    @property
    def scope(self) -> TenantScope:
        """The scope that its code runs in."""
        return TenantScope(self.id.owner)


# Commands are read by the names of their fields.
Check = Callable[[Any, Sender], None]


def refusal_of(
    commands: Iterable[WorkflowCommand], id: WorkflowId, namespace: str
) -> TenancyError | None:
    """Why one of a workflow's commands is refused; None when each is the workflow's to give.

    The platform's workflows may name any tenant, and are not looked at.
    """
    if id.tenant is None:
        return None
    sender = Sender(id, namespace)
    try:
        for command in commands:
            kind = command.WhichOneof("variant")
            check = COMMANDS.get(kind or "", _unknown)
            if check is not None:
                check(getattr(command, kind) if kind else command, sender)
    except TenancyError as error:
        return error
    return None


def _start(command: Any, sender: Sender) -> None:
    _own(command.workflow_id, command.namespace, sender, "start the child workflow")
    _own_attributes(command, sender)


def _signal(command: Any, sender: Sender) -> None:
    target = command.workflow_execution
    if command.HasField("child_workflow_id"):
        _own(command.child_workflow_id, "", sender, "signal")
    else:
        _own(target.workflow_id, target.namespace, sender, "signal")


def _cancel(command: Any, sender: Sender) -> None:
    target = command.workflow_execution
    _own(target.workflow_id, target.namespace, sender, "cancel")


def _own(workflow_id: str, namespace: str, sender: Sender, what: str) -> None:
    if namespace not in ("", sender.namespace):
        raise TenantMismatch(
            f'workflow "{sender.id}" cannot {what} "{workflow_id}" in the namespace {namespace!r}: '
            f"{sender.scope.tenant_id}'s are in {sender.namespace!r}."
        )
    agreement.check_same_owner(sender.scope, workflow_id, what=what)


def _own_attributes(command: Any, sender: Sender) -> None:
    # The server copies them to what is started, whose tenant then finds it in its lists.
    agreement.check_indexed_fields(
        command.search_attributes.indexed_fields,
        {agreement.TENANT_ID.name: sender.id.owner},
        f'workflow "{sender.id}"',
    )


def _nexus(command: Any, sender: Sender) -> None:
    raise HopRefused(
        f'workflow "{sender.id}" calls the Nexus operation {command.operation}, and tenancy is not '
        "carried over Nexus. Call it from an activity, or start a child workflow."
    )


def _unknown(command: Any, sender: Sender) -> None:
    raise HopRefused(
        f'workflow "{sender.id}" gives a command that this release of the library does not know. '
        "Use the release of temporalio that it was made for."
    )


# What is looked at in each command; None: it names nothing but the workflow's own.
COMMANDS: Final[dict[str, Check | None]] = {
    "start_child_workflow_execution": _start,
    "signal_external_workflow_execution": _signal,
    "request_cancel_external_workflow_execution": _cancel,
    "continue_as_new_workflow_execution": _own_attributes,
    "schedule_nexus_operation": _nexus,
    # Of a tenant's and of the platform's workflows, by the guard itself.
    "upsert_workflow_search_attributes": None,
    # By their number among the workflow's own.
    "cancel_child_workflow_execution": None,
    "cancel_signal_workflow": None,
    "cancel_timer": None,
    "request_cancel_activity": None,
    "request_cancel_local_activity": None,
    "request_cancel_nexus_operation": None,
    # Activities are the workflow's own, and say so by their header.
    "schedule_activity": None,
    "schedule_local_activity": None,
    "start_timer": None,
    "set_patch_marker": None,
    "modify_workflow_properties": None,
    "update_response": None,
    "respond_to_query": None,
    "complete_workflow_execution": None,
    "fail_workflow_execution": None,
    "cancel_workflow_execution": None,
}
