"""A server that is asked too often about deployments is asked again, for a while."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from temporal_tenancy.cli import ExitCode, reaching
from temporal_tenancy.cli import deployments as commands
from temporal_tenancy.cli._failures import _classified
from temporal_tenancy.cli._not_reachable import NotReachable
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.sdk import throttling
from temporal_tenancy.sdk.private_names import CheckingServiceClient
from tests.fixtures.jobs.fan_out_control import Control
from tests.library.deployments.test_versioned_workers import (
    NEW,
    OLD,
    app,
    many,
    program_of,
    sink,
    workers,
)

pytestmark = pytest.mark.schedules

__all__ = ["app", "many", "sink"]  # fixtures

SAID = "too many requests issued to Worker Deployment 'app'. Please try again later"
# What the commands ask of the server about versions and their workers.
RPCS = {
    "list_worker_deployments",
    "describe_worker_deployment",
    "describe_worker_deployment_version",
    "set_worker_deployment_current_version",
    "describe_task_queue",
}


class Busy(CheckingServiceClient):
    """A connection whose server refuses each kind of request some times before it answers."""

    refusals = 0  # of each kind of request, which are left

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.refused: Counter[str] = Counter()

    def admit(self, service: str, rpc: str, request: Any) -> Any:
        if rpc in RPCS and self.refused[rpc] < self.refusals:
            self.refused[rpc] += 1
            raise RPCError(SAID, RPCStatusCode.RESOURCE_EXHAUSTED, b"")
        return request

    def update_rpc_metadata(self, metadata: Mapping[str, str | bytes]) -> None:
        self._inner.update_rpc_metadata(metadata)

    def update_api_key(self, api_key: str | None) -> None:
        self._inner.update_api_key(api_key)


@pytest.fixture
def busy(app: Client) -> Busy:
    return Busy(app.service_client)


@pytest.fixture
def program(app: Client, busy: Busy, database: Database) -> Iterator[None]:
    """Runs commands over the busy connection."""
    config = app.config(active_config=True)
    config["service_client"] = busy
    config["plugins"] = []
    client = Client(**config)
    with program_of(client, database):
        yield


async def test_a_server_that_is_asked_too_often_is_asked_again(
    app: Client,
    busy: Busy,
    many: None,
    control: Control,
    program: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(throttling, "FIRST", 0.0)
    async with workers(app, OLD, NEW):
        busy.refusals = 3
        promoted = await commands.promote("v2", deployment=None)
        assert (promoted.document["before"], promoted.document["current"]) == ("v1", "v2")
        assert busy.refused == dict.fromkeys(RPCS, 3)
        busy.refused.clear()
        listed = await commands.show_all(None)
        [found] = listed.document["deployments"]
        assert [version["workers"] for version in found["versions"]] == [1, 1]
        assert busy.refused == dict.fromkeys(RPCS - {"set_worker_deployment_current_version"}, 3)


async def test_a_server_that_goes_on_refusing_is_said_to_be_asked_too_often(
    busy: Busy, program: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttling, "FIRST", throttling.WITHIN * 2)
    busy.refusals = 1
    with pytest.raises(NotReachable) as refused, reaching():
        await commands.show_all(None)
    assert refused.value.message == (
        f"the Temporal server is asked more than it answers: {SAID}. Wait a minute, and "
        "repeat this."
    )
    code, kind, _ = _classified(refused.value)
    assert (code, kind) == (ExitCode.NOT_REACHABLE, "NotReachable")


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (RPCStatusCode.UNAVAILABLE, "away"),
        (RPCStatusCode.NOT_FOUND, "gone"),
        (RPCStatusCode.RESOURCE_EXHAUSTED, "grpc: received message larger than max (5 vs. 4)"),
    ],
)
async def test_nothing_else_is_asked_again(status: RPCStatusCode, says: str) -> None:
    sent = []

    async def send() -> None:
        sent.append(status)
        raise RPCError(says, status, b"")

    with pytest.raises(RPCError, match=says.split(" (")[0]):
        await throttling.unthrottled(send)
    assert sent == [status]
