"""Each RPC in a tenant's scope is checked or rejected, and an unknown one is rejected."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st
from temporalio import service
from temporalio.api.common.v1 import Callback, Payload, SearchAttributes
from temporalio.api.workflowservice import v1 as api
from temporalio.client import Client
from temporalio.service import ConnectConfig, ServiceClient

from temporal_tenancy.core.errors import TenantMismatch
from temporal_tenancy.core.scope import PlatformScope, TenantScope, enter
from temporal_tenancy.everything import TenancyPlugin
from temporal_tenancy.sdk._task_tokens import workflow_of
from temporal_tenancy.sdk.interceptors._hooks import Handling
from temporal_tenancy.sdk.interceptors._rpcs import RPCS, request_name

HERE = "default"
OWN, FOREIGN = "acme/echo.tell/1", "globex/echo.tell/1"
SERVICES = {
    "workflow": service.WorkflowService,
    "operator": service.OperatorService,
    "cloud": service.CloudService,
    "test": service.TestService,
    "health": service.HealthService,
}


def rpcs_of(name: str) -> dict[str, type[Message]]:
    """Returns the RPCs of one of the SDK's services, with their request messages."""
    found = {}
    for rpc, method in inspect.getmembers(SERVICES[name], inspect.isfunction):
        if not rpc.startswith("_"):
            module, _, request = method.__annotations__["req"].rpartition(".")
            found[rpc] = getattr(importlib.import_module(module), request)
    return found


class Recorder(ServiceClient):
    """A connection that sends nothing and records the requests."""

    def __init__(self) -> None:
        super().__init__(ConnectConfig("nowhere:7233"))
        self.sent: list[Any] = []

    async def _rpc_call(self, rpc: str, req: Any, resp_type: Any, **options: Any) -> Any:
        self.sent.append(req)
        return resp_type()

    @property
    def worker_service_client(self) -> Any:
        raise NotImplementedError

    def update_rpc_metadata(self, metadata: Mapping[str, Any]) -> None:
        self.sent.append(metadata)

    def update_api_key(self, api_key: str | None) -> None:
        self.sent.append(api_key)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def client(recorder: Recorder) -> Client:
    return Client(recorder, namespace=HERE, plugins=[TenancyPlugin()])


async def call(client: Client, rpc: str, request: Any, *, of: str = "workflow") -> None:
    services = {**vars(client.service_client)}
    await getattr(services[f"{of}_service"], rpc)(request)


def test_every_service_of_the_sdk_is_known() -> None:
    made = {name.removesuffix("_service") for name in vars(Recorder()) if name.endswith("_service")}
    assert made == set(SERVICES)


@pytest.mark.parametrize("name", [name for name in SERVICES if name != "cloud"])
def test_every_rpc_of_the_sdk_is_decided_upon(name: str) -> None:
    assert set(rpcs_of(name)) == set(RPCS[name])
    for rpc, decided in RPCS[name].items():
        assert decided.why
        assert bool(decided.checks) == (decided.handling is Handling.CHECKS), rpc


def test_every_rpc_that_is_checked_takes_the_message_that_its_check_expects() -> None:
    taken = rpcs_of("workflow")
    for name, rpcs in RPCS.items():
        for rpc, decided in rpcs.items():
            if decided.handling is Handling.CHECKS:
                assert name == "workflow"
                assert taken[rpc].DESCRIPTOR.name == request_name(rpc)


async def test_a_call_that_is_about_nobody_is_made_in_a_tenants_scope(
    client: Client, recorder: Recorder
) -> None:
    with enter(TenantScope("acme")):
        for name, rpcs in RPCS.items():
            for rpc, decided in rpcs.items():
                if decided.handling is Handling.EXEMPT:
                    await call(client, rpc, rpcs_of(name)[rpc](), of=name)
    assert len(recorder.sent) == 8


UNCHECKED = [
    (name, rpc)
    for name in SERVICES
    for rpc in rpcs_of(name)
    if RPCS.get(name, {}).get(rpc) is None or RPCS[name][rpc].handling is Handling.REFUSES
]


@pytest.mark.parametrize(("name", "rpc"), UNCHECKED)
async def test_a_tenants_code_does_not_make_a_call_that_is_not_about_it(
    client: Client, recorder: Recorder, name: str, rpc: str
) -> None:
    request = rpcs_of(name)[rpc]()
    with enter(TenantScope("acme")), pytest.raises(TenantMismatch, match=f"acme cannot call {rpc}"):
        await call(client, rpc, request, of=name)
    assert recorder.sent == []
    for scope in (PlatformScope("a test"), None):
        with enter(scope) if scope else pytest.MonkeyPatch.context():
            await call(client, rpc, request, of=name)
    assert recorder.sent == [request, request]


async def test_an_rpc_that_nobody_has_decided_upon_is_refused(
    client: Client, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(RPCS["workflow"], "get_system_info")
    with enter(TenantScope("acme")), pytest.raises(TenantMismatch, match="cannot call"):
        await call(client, "get_system_info", api.GetSystemInfoRequest())
    assert recorder.sent == []


def token(workflow_id: str, *, component: bytes = b"") -> bytes:
    """Returns a task token as the server writes it."""

    def field(number: int, value: bytes) -> bytes:
        return bytes([number << 3 | 2, len(value)]) + value

    other = field(1, b"a-namespace-id") + field(3, b"a-run-id") + b"\x20\x05"
    return other + field(2, workflow_id.encode()) + (field(14, component) if component else b"")


# A request of each checked RPC, about the workflow or schedule `id`.
def about(id: str) -> dict[str, Any]:
    execution = {"execution": {"workflow_id": id}}
    workflow_execution = {"workflow_execution": {"workflow_id": id}}
    workflow = {"workflow_id": id}
    schedule = {"schedule_id": id}
    starting = {"schedule_id": id, "schedule": {"action": {"start_workflow": {"workflow_id": id}}}}
    task = {"task_token": token(id)}
    operation = {"start_workflow": {"namespace": HERE, "workflow_id": id}}
    return {
        "start_workflow_execution": workflow,
        "signal_with_start_workflow_execution": workflow,
        "execute_multi_operation": {"operations": [operation]},
        "update_workflow_execution": workflow_execution,
        "signal_workflow_execution": workflow_execution,
        "request_cancel_workflow_execution": workflow_execution,
        "terminate_workflow_execution": workflow_execution,
        "reset_workflow_execution": workflow_execution,
        "poll_workflow_execution_update": {"update_ref": workflow_execution},
        "query_workflow": execution,
        "describe_workflow_execution": execution,
        "get_workflow_execution_history": execution,
        "get_workflow_execution_history_reverse": execution,
        "record_activity_task_heartbeat": task,
        "respond_activity_task_completed": task,
        "respond_activity_task_failed": task,
        "respond_activity_task_canceled": task,
        "record_activity_task_heartbeat_by_id": workflow,
        "respond_activity_task_completed_by_id": workflow,
        "respond_activity_task_failed_by_id": workflow,
        "respond_activity_task_canceled_by_id": workflow,
        "create_schedule": starting,
        "update_schedule": starting,
        "patch_schedule": schedule,
        "delete_schedule": schedule,
        "describe_schedule": schedule,
        "list_schedule_matching_times": schedule,
    }


LISTS = ["list_workflow_executions", "scan_workflow_executions", "count_workflow_executions"]
NAMING = sorted(about(OWN))


def request(rpc: str, fields: Mapping[str, Any], *, namespace: str = HERE) -> Any:
    return rpcs_of("workflow")[rpc](namespace=namespace, **fields)


def test_every_rpc_that_is_checked_is_tried_below() -> None:
    checked = [r for r, each in RPCS["workflow"].items() if each.handling is Handling.CHECKS]
    assert sorted(checked) == sorted([*NAMING, *LISTS])


@pytest.mark.parametrize("id", [FOREIGN, "platform/echo.sweep/1", "acme", "acme2/x.y/1", "", "/"])
@pytest.mark.parametrize("rpc", NAMING)
async def test_a_tenants_code_names_no_other_tenants_workflow_in_any_rpc(
    client: Client, recorder: Recorder, rpc: str, id: str
) -> None:
    with enter(TenantScope("acme")), pytest.raises(TenantMismatch, match="acme"):
        await call(client, rpc, request(rpc, about(id)[rpc]))
    assert recorder.sent == []


@pytest.mark.parametrize("rpc", NAMING)
async def test_a_tenants_code_names_its_own_workflow_in_every_rpc(
    client: Client, recorder: Recorder, rpc: str
) -> None:
    own = request(rpc, about(OWN)[rpc])
    with enter(TenantScope("acme")):
        await call(client, rpc, own)
    assert recorder.sent == [own]


@pytest.mark.parametrize("namespace", ["elsewhere", ""])
@pytest.mark.parametrize("rpc", [*NAMING, *LISTS])
async def test_a_tenants_code_reaches_into_no_other_namespace(
    client: Client, recorder: Recorder, rpc: str, namespace: str
) -> None:
    fields = {} if rpc in LISTS else about(OWN)[rpc]
    with enter(TenantScope("acme")), pytest.raises(TenantMismatch, match="namespace"):
        await call(client, rpc, request(rpc, fields, namespace=namespace))
    assert recorder.sent == []


@pytest.mark.parametrize("rpc", LISTS)
async def test_a_tenants_list_is_narrowed_in_every_rpc(
    client: Client, recorder: Recorder, rpc: str
) -> None:
    with enter(TenantScope("acme")):
        await call(client, rpc, request(rpc, {"query": "Job = 'a.b' OR Job = 'c.d'"}))
    [sent] = recorder.sent
    assert sent.query == "TenantId = 'acme' AND ( Job = 'a.b' OR Job = 'c.d' )"


OF_GLOBEX = SearchAttributes(
    indexed_fields={
        "TenantId": Payload(metadata={"encoding": b"json/plain"}, data=b'"globex"'),
    }
)
ACTION = {"schedule_id": OWN, "schedule": {"action": {"start_workflow": {"workflow_id": OWN}}}}
WRONG: dict[str, tuple[str, dict[str, Any]]] = {
    "a start among another's": (
        "start_workflow_execution",
        {"workflow_id": OWN, "search_attributes": OF_GLOBEX},
    ),
    "a signal with start among another's": (
        "signal_with_start_workflow_execution",
        {"workflow_id": OWN, "search_attributes": OF_GLOBEX},
    ),
    "a start that calls another back": (
        "start_workflow_execution",
        {"workflow_id": OWN, "completion_callbacks": [Callback(nexus=Callback.Nexus(url="x"))]},
    ),
    "an update beside a start": (
        "execute_multi_operation",
        {
            "operations": [
                {"start_workflow": {"namespace": HERE, "workflow_id": OWN}},
                {
                    "update_workflow": {
                        "namespace": HERE,
                        "workflow_execution": {"workflow_id": FOREIGN},
                    }
                },
            ]
        },
    ),
    "an operation elsewhere": (
        "execute_multi_operation",
        {"operations": [{"start_workflow": {"namespace": "elsewhere", "workflow_id": OWN}}]},
    ),
    "an operation that is none": ("execute_multi_operation", {"operations": [{}]}),
    "a schedule of another's work": (
        "create_schedule",
        {"schedule_id": OWN, "schedule": {"action": {"start_workflow": {"workflow_id": FOREIGN}}}},
    ),
    "a schedule among another's": ("create_schedule", {**ACTION, "search_attributes": OF_GLOBEX}),
    "a schedule whose work is among another's": (
        "update_schedule",
        {
            "schedule_id": OWN,
            "schedule": {
                "action": {"start_workflow": {"workflow_id": OWN, "search_attributes": OF_GLOBEX}}
            },
        },
    ),
    "a token of no workflow": ("respond_activity_task_completed", {"task_token": token("")}),
    "a token that is none": ("respond_activity_task_completed", {"task_token": b"\xff\xff"}),
    "no token": ("respond_activity_task_completed", {}),
    "a token of a component": (
        "respond_activity_task_completed",
        {"task_token": token(OWN, component=b"another's")},
    ),
    "a token with a second id": (
        "respond_activity_task_failed",
        {"task_token": token(OWN) + token(FOREIGN)},
    ),
    "a list that is led out": (
        "list_workflow_executions",
        {"query": "Job = 'x' /* ( */ ) OR (TenantId = 'globex' /* ) */"},
    ),
}


@pytest.mark.parametrize(("rpc", "fields"), WRONG.values(), ids=WRONG)
async def test_what_a_request_names_besides_is_looked_at(
    client: Client, recorder: Recorder, rpc: str, fields: dict[str, Any]
) -> None:
    with enter(TenantScope("acme")), pytest.raises(TenantMismatch):
        await call(client, rpc, request(rpc, fields))
    assert recorder.sent == []


async def test_a_request_of_another_rpc_is_not_taken_for_this_ones(
    client: Client, recorder: Recorder
) -> None:
    # On the wire both have the workflow in the same place, under another name.
    other = request("terminate_workflow_execution", {"workflow_execution": {"workflow_id": OWN}})
    with enter(TenantScope("acme")), pytest.raises(TenantMismatch, match="with a Terminate"):
        await call(client, "request_cancel_workflow_execution", other)
    assert recorder.sent == []


async def test_what_the_sdk_does_not_know_of_a_request_is_not_sent(
    client: Client, recorder: Recorder
) -> None:
    given = request("describe_workflow_execution", {"execution": {"workflow_id": OWN}})
    newer = type(given).FromString(given.SerializeToString() + b"\xfa\x3e\x01x")
    assert newer.SerializeToString() != given.SerializeToString()
    with enter(TenantScope("acme")):
        await call(client, "describe_workflow_execution", newer)
    assert recorder.sent[0].SerializeToString() == given.SerializeToString()


async def test_a_tenants_code_changes_nothing_of_a_connection_that_all_use(
    client: Client, recorder: Recorder
) -> None:
    with enter(TenantScope("acme")):
        with pytest.raises(TenantMismatch, match="serves all tenants"):
            client.rpc_metadata = {"a": "b"}
        with pytest.raises(TenantMismatch, match="serves all tenants"):
            client.api_key = "a key"
        with pytest.raises(TenantMismatch, match="serves all tenants"):
            Client(client.service_client, namespace="elsewhere", plugins=[TenancyPlugin()])
    assert recorder.sent == []


@given(st.binary(max_size=40))
def test_no_token_makes_its_reader_fall_over(given: bytes) -> None:
    found = workflow_of(given)
    assert found is None or found


@given(st.lists(st.text(max_size=20), min_size=1, max_size=4))
def test_the_last_id_in_a_token_is_the_one_that_the_server_takes(ids: list[str]) -> None:
    assert workflow_of(b"".join(map(token, ids))) == (ids[-1] or None)
