"""A Temporal server that accepts connections and never answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from temporalio.api.workflowservice.v1 import (
    GetWorkflowExecutionHistoryRequest,
    PollWorkflowTaskQueueRequest,
    QueryWorkflowRequest,
)
from temporalio.service import RPCError, RPCStatusCode

from dev.devstack.ports import LOOPBACK
from dev.devstack.temporal_part import TemporalPart
from temporal_tenancy.cli import (
    Application,
    Login,
    Program,
    _temporal_connection,
    reaching,
    use_program,
)
from temporal_tenancy.cli._failures import report
from temporal_tenancy.cli._not_reachable import NotReachable
from temporal_tenancy.cli._server_access import temporal as temporal_of_the_command
from temporal_tenancy.cli._temporal_connection import connect_temporal, impatient
from temporal_tenancy.everything import TenancyPlugin
from temporal_tenancy.postgres.database import Database
from tests.fixtures.silence import SilentProxy

SOON = timedelta(milliseconds=100)


@pytest.fixture
async def silent() -> AsyncIterator[str]:
    """The address of a listener that accepts and never answers."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1024):
            pass
        writer.close()

    server = await asyncio.start_server(accept, LOOPBACK, 0)
    yield "{}:{}".format(*server.sockets[0].getsockname())
    server.close()


async def test_a_connection_that_is_accepted_and_not_answered_ends_soon(
    silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", silent)
    with pytest.raises(RPCError) as caught:
        await connect_temporal([], within=SOON)
    assert caught.value.status is RPCStatusCode.DEADLINE_EXCEEDED
    with (
        pytest.raises(NotReachable) as told,
        reaching(lambda: (silent, "default"), connecting=True),
    ):
        raise caught.value
    assert told.value.message == (
        f"the Temporal server {silent} does not answer: it accepts connections, and stays silent."
    )


async def test_a_command_says_so(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", silent)
    url = "postgresql://nobody@127.0.0.1:1/none"  # nothing connects to it
    nothing = Login("NOTHING", url)

    def load() -> Application:
        return Application(
            connect=lambda _: connect_temporal([TenancyPlugin()], within=SOON),
            database=lambda: Database(platform_url=url),
            tenant=nothing,
            platform=nothing,
            relay=nothing,
            owner=nothing,
        )

    with use_program(Program(load=load)):
        with pytest.raises(NotReachable) as told:
            async with temporal_of_the_command():
                pass
        code = report(told.value, json=False, debug=False)
    assert code == 3


async def test_a_server_that_falls_silent_ends_a_request_soon_and_no_long_poll(
    temporal: TemporalPart, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, _, port = temporal.address.rpartition(":")
    assert host == LOOPBACK
    async with SilentProxy(int(port)).serving() as proxy:
        monkeypatch.setenv("TEMPORAL_ADDRESS", f"{LOOPBACK}:{proxy.port}")
        client = await connect_temporal([])
        run = await client.start_workflow("silence", id="silence", task_queue="nobody")
        hurried = impatient(client, within=SOON)
        waiting = asyncio.create_task(hurried.get_workflow_handle(run.id).result())
        proxy.silent.set()
        for _ in range(2):  # the second one ends after the limit of whatever began with the first
            with pytest.raises(NotReachable), reaching():
                await hurried.count_workflows()
        assert not waiting.done()
        waiting.cancel()


@pytest.mark.parametrize(
    ("rpc", "request_", "is_limited"),
    [
        ("get_workflow_execution_history", GetWorkflowExecutionHistoryRequest(), True),
        (
            "get_workflow_execution_history",
            GetWorkflowExecutionHistoryRequest(wait_new_event=True),
            False,
        ),
        ("poll_workflow_task_queue", PollWorkflowTaskQueueRequest(), False),
        ("query_workflow", QueryWorkflowRequest(), False),
    ],
)
def test_only_what_the_server_answers_by_itself_is_limited(
    rpc: str, request_: Any, is_limited: bool
) -> None:
    assert _temporal_connection._is_long(rpc, request_) is not is_limited
