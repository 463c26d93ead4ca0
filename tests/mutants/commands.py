"""The mutants of commands and calls: faults in what a tenant's code may ask of the server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from temporal_tenancy.sdk import _commands as commands
from temporal_tenancy.sdk import _guard as guard
from temporal_tenancy.sdk import _task_tokens as task_tokens
from temporal_tenancy.sdk import agreement
from temporal_tenancy.sdk.interceptors import _client_outbound as client_outbound
from temporal_tenancy.sdk.interceptors import _rpcs as rpcs
from temporal_tenancy.sdk.interceptors import service_client
from tests.mutants.hops import LISTS
from tests.mutants.mutant import Mutant, replace

COMMANDS: Final = "tests/library/sdk/test_workflow_commands.py"
CALLS: Final = "tests/library/sdk/test_client_calls.py"
REPLAYS: Final = "tests/replay/test_replay.py::test_a_recorded_history_replays"

_CHILD: Final = f"{COMMANDS}::test_a_child_of_an_unknown_type_takes_no_id_that_is_not_its_tenants"
_FORGOTTEN: Final = f"{COMMANDS}::test_what_an_interceptor_forgets_the_guard_refuses"

# The tests that should fail when commands of this kind are not checked.
KILLERS: Final[dict[str, str]] = {
    "start_child_workflow_execution": _CHILD,
    "signal_external_workflow_execution": f"{_FORGOTTEN}[signal-signal_external_workflow]",
    "request_cancel_external_workflow_execution": (
        f"{COMMANDS}::test_a_workflow_does_not_cancel_another_tenants"
    ),
    "continue_as_new_workflow_execution": f"{_FORGOTTEN}[continue as new-continue_as_new]",
    # The server has no such endpoint, and would retry the workflow task for ever.
    "schedule_nexus_operation": (
        "tests/library/sdk/test_commands.py::test_a_tenants_command_that_names_another_is_refused"
    ),
}


def _pass(*_: object, **__: object) -> None:
    """Replaces a check, and finds nothing."""


def _forgetting(kind: str) -> Callable[[], None]:
    def forget() -> None:
        commands.COMMANDS[kind] = None

    return forget


def command_mutants() -> list[Mutant]:
    """Returns a mutant for each command that is checked, in which it is not."""
    return [
        Mutant(
            f"command.{kind}",
            "a tenant's workflow may send it, whatever it names",
            (KILLERS[kind],),
            seed=_forgetting(kind),
        )
        for kind, check in commands.COMMANDS.items()
        if check is not None
    ]


def _believe_every_command() -> None:
    replace(guard, "refusal_of", _pass)


def _believe_a_childs_attributes() -> None:
    replace(commands, "_own_attributes", _pass)


def _refuse_whatever_the_history_says() -> None:
    activate = guard._GuardedInstance.activate

    def refusing(self: Any, act: Any) -> Any:
        self.has_refused = True
        return activate(self, act)

    replace(guard._GuardedInstance, "activate", refusing)


def _forget_what_was_refused() -> None:
    replace(guard, "PATCH_FOREIGN_COMMAND", "")  # so there is no marker


def _put_the_filter_in_parentheses() -> None:
    def wrapped(query: str | None, tenant_id: str) -> str:
        own = f"TenantId = '{tenant_id}'"
        return f"{own} AND ({query})" if query else own

    replace(client_outbound, "narrowed", wrapped)
    # Two pairs of parentheses are harder to close.
    replace(rpcs, "narrowed", lambda query, tenant_id: query)


def _believe_every_token() -> None:
    replace(agreement, "check_task_token", _pass)


def _believe_tokens_that_are_none() -> None:
    workflow_of = task_tokens.workflow_of
    replace(agreement, "workflow_of", lambda token: workflow_of(token) or "globex/x.y/1")


def _let_every_call_pass() -> None:
    replace(service_client, "admitted", lambda service, request, call: request)


def _let_unknown_calls_pass() -> None:
    admitted = rpcs.admitted

    def admitting(service: str, request: Any, call: Any) -> Any:
        known = call.rpc in rpcs.RPCS.get(service, {})
        return admitted(service, request, call) if known else request

    replace(service_client, "admitted", admitting)


COMMAND_FAULTS: Final = [
    *command_mutants(),
    Mutant(
        "commands-unchecked",
        "the guard checks no command",
        (_CHILD, f"{COMMANDS}::test_a_workflow_does_not_cancel_another_tenants"),
        seed=_believe_every_command,
    ),
    Mutant(
        "commands-attributes-unchecked",
        "a child workflow may have another tenant's search attribute",
        (f"{COMMANDS}::test_a_child_is_not_put_among_another_tenants",),
        seed=_believe_a_childs_attributes,
    ),
    Mutant(
        "commands-refused-on-replay",
        "a command that is in the history already is refused on replay",
        (f"{REPLAYS}[acme~echo.reach~cancel-before-the-plugin@0.1.0]",),
        seed=_refuse_whatever_the_history_says,
    ),
    Mutant(
        "commands-refusal-forgotten",
        "a command that was refused is accepted on replay",
        (f"{REPLAYS}[acme~echo.reach~refused@0.1.0]",),
        seed=_forget_what_was_refused,
    ),
    Mutant(
        "filter-unread",
        "a list filter is put into parentheses without parsing it",
        (f"{LISTS}::test_no_filter_leads_out_of_the_tenant",),
        seed=_put_the_filter_in_parentheses,
    ),
    Mutant(
        "tokens-unchecked",
        "a task token is not checked",
        (f"{CALLS}::test_a_tenants_code_does_not_complete_another_tenants_activity_by_its_token",),
        seed=_believe_every_token,
    ),
    Mutant(
        "tokens-unread",
        "a task token that cannot be read is accepted",
        (f"{CALLS}::test_a_token_that_cannot_be_read_is_refused",),
        seed=_believe_tokens_that_are_none,
    ),
    Mutant(
        "calls-unchecked",
        "a call that no interceptor sees is not checked",
        (f"{CALLS}::test_a_tenants_code_does_not_wait_for_another_tenants_update",),
        seed=_let_every_call_pass,
    ),
    Mutant(
        "calls-unknown-taken",
        "a call that is missing from the table is made",
        ("tests/library/sdk/test_rpcs.py::test_an_rpc_that_nobody_has_decided_upon_is_refused",),
        seed=_let_unknown_calls_pass,
    ),
]
