"""Every command reports a namespace that the server does not have."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError

from dev.devstack.temporal_part import TemporalPart
from processes.connect import reaching
from temporal_tenancy.cli import NotReachable
from temporal_tenancy.cli._temporal_connection import impatient
from temporal_tenancy.sdk.lookups import NamespaceUnready, if_known
from temporal_tenancy.sdk.private_names import CheckingServiceClient
from tests.library.sdk.test_lookups import ID, RUNS, Ask

OTHERS: dict[str, Ask] = {
    "a start": lambda client: client.start_workflow("test.note", id=ID, task_queue="nobody"),
    "a cancellation": lambda client: client.get_workflow_handle(ID).cancel(),
    "a list": lambda client: anext(client.list_workflows()),
    "a pause": lambda client: client.get_schedule_handle(ID).pause(),
}


@pytest.mark.parametrize(
    "ask",
    [*(RUNS[each] for each in ("the latest run", "a result", "a schedule")), *OTHERS.values()],
    ids=["the latest run", "a result", "a schedule", *OTHERS],
)
async def test_whatever_is_asked_a_person_hears_that_the_namespace_is_missing(
    nowhere: Client, ask: Ask
) -> None:
    with pytest.raises(NotReachable, match="no namespace"), reaching():
        await ask(nowhere)


async def test_a_run_that_is_not_there_is_no_namespace_that_is_missing(raw: Client) -> None:
    with pytest.raises(RPCError), reaching():
        await raw.get_workflow_handle(ID).cancel()


class LateNamespace(CheckingServiceClient):
    """A connection to a server that has the namespace just after it has said that it has not."""

    def admit(self, service: str, rpc: str, request: Any) -> Any:
        return request

    async def _rpc_call(self, rpc: str, req: Any, *args: Any, **options: Any) -> Any:
        try:
            return await self._inner._rpc_call(rpc, req, *args, **options)
        except RPCError:
            await self._inner.workflow_service.register_namespace(
                RegisterNamespaceRequest(
                    namespace=req.namespace,
                    workflow_execution_retention_period=Duration(seconds=86_400),
                )
            )
            raise

    def update_rpc_metadata(self, metadata: Mapping[str, str | bytes]) -> None:
        self._inner.update_rpc_metadata(metadata)

    def update_api_key(self, api_key: str | None) -> None:
        self._inner.update_api_key(api_key)


@pytest.fixture
async def unready(temporal: TemporalPart) -> Client:
    """A command's client of a namespace that the server has, and says once that it lacks."""
    client = await Client.connect(temporal.address, namespace=f"late-{uuid.uuid4()}")
    config = client.config(active_config=True)
    config["service_client"] = LateNamespace(config["service_client"])
    return impatient(Client(**config))


async def test_a_namespace_that_the_server_could_only_not_look_up_is_not_to_be_created(
    unready: Client,
) -> None:
    with pytest.raises(NotReachable) as told, reaching():
        await unready.count_workflows()
    assert told.value.message.endswith(
        f'could not look up the namespace "{unready.namespace}", though it has it: it is slow, or '
        "has only just started. Try again."
    )
    assert "Create it" not in told.value.message


async def test_then_nothing_is_known_of_what_is_in_it(unready: Client) -> None:
    with pytest.raises(NamespaceUnready):
        await if_known(unready.get_workflow_handle(ID).describe())
