"""On a node of a cluster, which takes only commands whose keys are all on it."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from dev.devstack.redis import RedisServer
from temporal_tenancy.postgres.database import Database, use_database
from temporal_tenancy.shared_state import (
    LockTaken,
    Rate,
    RateLimited,
    SharedState,
    SharedStateUnavailable,
    platform_rate_limit,
    tenant_cache,
    tenant_lock,
    tenant_rate_limit,
)
from tests.fixtures.redis import PATIENT, installed_redis, sharing

PRICES = tenant_cache("prices", int, ttl=timedelta(minutes=1), entries=2)
SLOTS = 16_384


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[SharedState]:
    """A cluster of one node, which has no slots yet."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        bus = free.getsockname()[1]
    program = tmp_path / "node"
    program.write_text(
        f'#!/bin/sh\nexec {installed_redis()} "$@" --cluster-enabled yes --cluster-port {bus}\n'
    )
    program.chmod(0o700)
    with RedisServer(tmp_path / "redis", str(program), preferred=None) as server:
        state = SharedState(server.url, timeout=PATIENT)
        yield state
        await state.close()


def give_slots(state: SharedState) -> None:
    """Gives the node all slots, and waits until it says that the cluster is up."""
    assert state.client is not None
    with Redis(**_address(state)) as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, SLOTS - 1)
        while b"cluster_state:ok" not in _text(client.execute_command("CLUSTER", "INFO")):
            pass


def _text(answer: object) -> bytes:
    return answer if isinstance(answer, bytes) else str(answer).encode()


def _address(state: SharedState) -> dict[str, Any]:  # options of a client
    assert state.client is not None
    options = state.client.connection_pool.connection_kwargs
    return {name: options[name] for name in ("host", "port", "password")}


async def test_all_of_a_tenants_keys_are_on_one_node(node: SharedState, database: Database) -> None:
    """It answers CROSSSLOT to a command whose keys are of several slots."""
    give_slots(node)
    for tenant in ("acme", "globex"):
        with sharing(node, tenant), use_database(database):

            async def compute() -> int:
                return 7

            assert await PRICES.get_or_compute(compute, "a") == 7
            await PRICES.set(8, "b")
            await PRICES.set(9, "c")  # one too many
            assert [await PRICES.get(key) for key in "bc"] == [8, 9]
            assert await PRICES.clear() == 2
            async with tenant_lock("books"):
                with pytest.raises(LockTaken):
                    async with tenant_lock("books"):
                        pass
            await tenant_rate_limit("partner", Rate(1, timedelta(minutes=1)), away="refuse")
            with pytest.raises(RateLimited):
                await tenant_rate_limit("partner", Rate(1, timedelta(minutes=1)), away="refuse")
            await platform_rate_limit("partner", Rate(9), away="refuse")


async def test_a_node_that_lacks_the_slot_is_told_as_one(node: SharedState) -> None:
    with sharing(node, "acme"), pytest.raises(SharedStateUnavailable, match="node of a cluster"):
        await PRICES.delete("a")
