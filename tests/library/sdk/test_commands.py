"""Each kind of command is checked, or is known to name nothing of another tenant."""

from __future__ import annotations

from typing import Any

import pytest

from temporal_tenancy.core.identifiers import WorkflowId
from temporal_tenancy.sdk._commands import COMMANDS, refusal_of
from temporal_tenancy.sdk.private_names import WorkflowCommand

OWN = WorkflowId("acme", "echo.tell", "1")
OF_THE_PLATFORM = WorkflowId("platform", "echo.sweep", "1")
HERE = "default"

# A field of a command whose name suggests that it may name another tenant.
NAMING = ("workflow_id", "namespace", "workflow_execution", "endpoint", "search_attributes")


def kinds() -> dict[str, Any]:
    [variant] = WorkflowCommand.DESCRIPTOR.oneofs
    return {field.name: field.message_type for field in variant.fields}


def test_every_command_of_the_sdk_is_decided_upon() -> None:
    assert set(kinds()) == set(COMMANDS)


@pytest.mark.parametrize("kind", sorted(kinds()))
def test_a_command_that_may_name_another_is_looked_at(kind: str) -> None:
    names = any(field.name in NAMING for field in kinds()[kind].fields)
    # The guard checks an upsert even where it is the platform's.
    assert names == (COMMANDS[kind] is not None or kind == "upsert_workflow_search_attributes")


def command(kind: str, **fields: Any) -> WorkflowCommand:
    made = WorkflowCommand()
    getattr(made, kind).SetInParent()
    for name, value in fields.items():
        target = getattr(made, kind)
        *path, last = name.split("__")
        for part in path:
            target = getattr(target, part)
        setattr(target, last, value)
    return made


CHILD, SIGNAL, CANCEL, NEXUS = (
    "start_child_workflow_execution",
    "signal_external_workflow_execution",
    "request_cancel_external_workflow_execution",
    "schedule_nexus_operation",
)
ID, NAMESPACE = "workflow_execution__workflow_id", "workflow_execution__namespace"
MINE, FOREIGN = "acme/x.y/1", "globex/x.y/1"

REFUSED = {
    "a foreign child": command(CHILD, workflow_id=FOREIGN),
    "a child of the platform's": command(CHILD, workflow_id="platform/x.y/1"),
    "a child without a tenant": command(CHILD, workflow_id="5f0a-random"),
    "a child that has the tenant alone": command(CHILD, workflow_id="acme"),
    "a child without an id": command(CHILD),
    "a child elsewhere": command(CHILD, workflow_id=MINE, namespace="elsewhere"),
    "a foreign signal": command(SIGNAL, **{ID: FOREIGN}),
    "a signal elsewhere": command(SIGNAL, **{ID: MINE, NAMESPACE: "elsewhere"}),
    "a signal to a foreign child": command(SIGNAL, child_workflow_id=FOREIGN),
    "a signal to nobody": command(SIGNAL),
    "a foreign cancellation": command(CANCEL, **{ID: FOREIGN}),
    "a cancellation elsewhere": command(CANCEL, **{ID: MINE, NAMESPACE: "elsewhere"}),
    "a Nexus operation": command(NEXUS, endpoint="e", operation="o"),
    "a command of a newer SDK": WorkflowCommand(),
}
TAKEN = {
    "an own child": command(CHILD, workflow_id=MINE, namespace=HERE),
    "an own signal": command(SIGNAL, **{ID: MINE, NAMESPACE: HERE}),
    "a signal to an own child": command(SIGNAL, child_workflow_id=MINE),
    "an own cancellation": command(CANCEL, **{ID: MINE, NAMESPACE: HERE}),
    "a timer": command("start_timer", seq=1),
}


@pytest.mark.parametrize("given", REFUSED.values(), ids=REFUSED)
def test_a_tenants_command_that_names_another_is_refused(given: WorkflowCommand) -> None:
    refusal = refusal_of([command("start_timer", seq=1), given], OWN, HERE)
    assert refusal is not None
    assert refusal.type in ("TenantMismatch", "HopRefused")
    assert refusal.non_retryable


@pytest.mark.parametrize("given", TAKEN.values(), ids=TAKEN)
def test_a_tenants_command_about_its_own_is_taken(given: WorkflowCommand) -> None:
    assert refusal_of([given], OWN, HERE) is None


def test_the_platforms_commands_are_not_looked_at() -> None:
    assert refusal_of(REFUSED.values(), OF_THE_PLATFORM, HERE) is None
