"""Free ports."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from dev.devstack.errors import PortInUse
from dev.devstack.ports import LOOPBACK, free_port, free_ports, prefer, require_free


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server((LOOPBACK, 0)) as server:
        yield server.getsockname()[1]


def test_free_ports_are_different() -> None:
    assert len(set(free_ports(20))) == 20


def test_a_taken_port_is_named_in_the_sentence(taken_port: int) -> None:
    with pytest.raises(PortInUse, match=f"^port {taken_port} on 127.0.0.1 is in use. Stop "):
        require_free(taken_port)


def test_a_free_port_is_preferred() -> None:
    port = free_port()
    assert prefer(port) == port


def test_a_taken_port_is_replaced(taken_port: int) -> None:
    assert prefer(taken_port) != taken_port
