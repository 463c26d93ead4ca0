"""Free ports, and the ports that parts keep."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev.devstack.ports import LOOPBACK, Ports, free_port, free_ports


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server((LOOPBACK, 0)) as server:
        yield server.getsockname()[1]


def test_free_ports_are_different() -> None:
    assert len(set(free_ports(20))) == 20


def test_a_part_asks_for_its_last_port_then_the_usual_one(tmp_path: Path) -> None:
    last, usual = free_ports(2)
    Ports(tmp_path / "ports.json").keep("web", last)
    again = Ports(tmp_path / "ports.json").candidates("web", usual)
    assert list(itertools.islice(again, 2)) == [last, usual]
    assert next(again) not in (last, usual)


def test_a_taken_port_is_no_candidate(taken_port: int) -> None:
    assert next(Ports().candidates("web", taken_port)) != taken_port


def test_a_forgotten_port_is_no_candidate() -> None:
    ports, port = Ports(), free_port()
    ports.keep("web", port)
    ports.forget("web")
    assert ports.kept("web") is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"web": "8000"}', '{"web": 0}', '{"web": 65536}', '{"web": null}']
)
def test_a_damaged_file_costs_only_the_ports(tmp_path: Path, text: str) -> None:
    path = tmp_path / "ports.json"
    path.write_text(text)
    assert Ports(path).kept("web") is None
