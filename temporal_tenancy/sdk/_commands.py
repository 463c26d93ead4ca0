"""Checks of workflow commands: a tenant's workflow may name only what belongs to that tenant.

Interceptors do not see every command, nor every type of command. These checks read the commands
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
from temporal_tenancy.sdk.private_names import WorkflowCommand


@dataclass(frozen=True)
class Sender:
    """A tenant's workflow whose commands are checked."""

    id: WorkflowId
    namespace: str

    @property
    def scope(self) -> TenantScope:
        """The scope of its code."""
        return TenantScope(self.id.owner)


# The first argument is the command's own message, which has a type per command.
Check = Callable[[Any, Sender], None]


def refusal_of(
    commands: Iterable[WorkflowCommand], id: WorkflowId, namespace: str
) -> TenancyError | None:
    """Returns why the first bad command of a workflow is refused; None if there is none.

    The platform's workflows may name any tenant, so their commands are not checked.

    Args:
        commands: the commands of one workflow task.
        id: the id of the workflow that sends them.
        namespace: the workflow's namespace, which is the only one that it may name.
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
    # The server copies them to the new run, which would then be in another tenant's lists.
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
        f'workflow "{sender.id}" sends a command that this release of the library does not know. '
        "Use the release of temporalio that it was made for."
    )


# The check of each command; None if it can name only what is the workflow's own.
COMMANDS: Final[dict[str, Check | None]] = {
    "start_child_workflow_execution": _start,
    "signal_external_workflow_execution": _signal,
    "request_cancel_external_workflow_execution": _cancel,
    "continue_as_new_workflow_execution": _own_attributes,
    "schedule_nexus_operation": _nexus,
    # The guard checks this one itself, for the platform's workflows as well.
    "upsert_workflow_search_attributes": None,
    # These name their target by its number in the workflow.
    "cancel_child_workflow_execution": None,
    "cancel_signal_workflow": None,
    "cancel_timer": None,
    "request_cancel_activity": None,
    "request_cancel_local_activity": None,
    "request_cancel_nexus_operation": None,
    # Activities belong to the workflow, and their header says so.
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
