"""The metrics of the reference SaaS's processes, and what its tenants have used."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fixtures.web import LINK_SECRET
from tests.fixtures.worker_process import StartWorker

TOKEN = "a-token-of-the-test"
PERIOD = '{"period": "2013-04"}'


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


async def test_a_web_process_whose_health_port_is_taken_says_so(
    start_worker: StartWorker, taken_port: int, tmp_path: Any
) -> None:
    web = start_worker(
        *("--port", "0"),
        module="processes.web",
        WEB_HEALTH_PORT=str(taken_port),
        WEB_URL="http://door.example",
        LINK_SECRET=LINK_SECRET,
        STORAGE_URL=f"file://{tmp_path / 'storage'}",
        SECRETS_URL=f"file://{tmp_path}",
    )
    assert await web.exit_code() == 3
    assert f"PortInUse: port {taken_port} on 127.0.0.1 is in use" in web.text
    assert "WEB_HEALTH_PORT" in web.text
