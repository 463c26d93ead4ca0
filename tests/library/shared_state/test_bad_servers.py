"""Servers and URLs that are wrong: one sentence each, and nothing of the password."""

from __future__ import annotations

import pytest

from dev.devstack.ports import free_port
from dev.devstack.redis import RedisServer
from temporal_tenancy.core.errors import ConfigurationError, ScopeMissing
from temporal_tenancy.shared_state._store import SharedState, current_shared_state
from tests.fixtures.odd_servers import speaking_http

SECRET = "hunter2"


async def told(url: str) -> str:
    """Returns what is said of a server."""
    state = SharedState(url)
    try:
        said = await state.check()
    finally:
        await state.close()
    assert said is not None
    assert SECRET not in said
    assert said.endswith(".")
    return said


async def test_a_server_that_serves_is_not_faulted(redis_url: str) -> None:
    state = SharedState(redis_url)
    assert await state.check() is None
    await state.close()


async def test_a_wrong_password(redis_server: RedisServer) -> None:
    at = f"127.0.0.1:{redis_server.port}"
    for url in (f"redis://:{SECRET}@{at}", f"redis://nobody:{SECRET}@{at}", f"redis://{at}"):
        assert "rejects the user or the password" in await told(url)


async def test_no_redis_at_all() -> None:
    async with speaking_http() as port:
        assert "is not Redis" in await told(f"redis://:{SECRET}@127.0.0.1:{port}")


async def test_a_database_that_the_server_does_not_have(redis_url: str) -> None:
    assert "it refused: " in await told(redis_url.rsplit("/", 1)[0] + "/9999")


async def test_nothing_there() -> None:
    assert "cannot be reached" in await told(f"redis://:{SECRET}@127.0.0.1:{free_port()}")


async def test_tls_where_there_is_none(redis_server: RedisServer) -> None:
    said = await told(f"rediss://:{SECRET}@127.0.0.1:{redis_server.port}")
    assert "does not speak TLS" in said or "closed the connection" in said


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:6379",
        f"http://:{SECRET}@localhost:6379",
        f"redis://:{SECRET}@localhost:port",
        f"redis://:{SECRET}@[::1",
        f"redis://:{SECRET}@localhost/jobs",
        f"redis://:{SECRET}@localhost/0/1",
        "redis://",
        "postgresql://localhost",
        f"redis://:{SECRET}@localhost:6379/0?socket_read_size=many",
    ],
)
def test_what_is_no_url_of_redis_is_refused_without_quoting_it(url: str) -> None:
    with pytest.raises(ConfigurationError, match="the URL of Redis") as refused:
        SharedState(url)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("scheme", ["redis", "rediss", "valkey", "valkeys"])
def test_valkeys_urls_are_taken_too(scheme: str) -> None:
    assert SharedState(f"{scheme}://:{SECRET}@localhost:6379/0").client is not None


def test_nothing_is_shared_unless_it_is_said() -> None:
    with pytest.raises(ConfigurationError, match="no shared state is set"):
        current_shared_state()


async def test_workflow_code_uses_none_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("temporalio.workflow.in_workflow", lambda: True)
    with pytest.raises(ScopeMissing, match="workflow code is replayed"):
        current_shared_state()
