"""A port that another program takes at the last moment: each part takes another one."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from dev import local_saas
from dev.devstack.errors import PartMissing
from dev.devstack.mail_sink import MailSink
from dev.devstack.ports import LOOPBACK, Ports, free_port
from dev.devstack.postgres import EmbeddedPostgres
from dev.devstack.processes import OwnedProcess, Patience
from dev.devstack.stack import Stack
from dev.devstack.temporal_binary import find_temporal
from dev.devstack.temporal_server import TemporalDevServer
from dev.local_saas import CodeMistake, Program

# Listens on its port as worker.py does, and says the same where it cannot.
LISTENER = """
import json, os, socket, sys, time

port = int(os.environ["WORKER_HEALTH_PORT"])
try:
    listener = socket.create_server(("127.0.0.1", port))
except OSError:
    sys.exit(f"PortInUse: port {port} on 127.0.0.1 is in use. Stop the program that listens there.")
ready = {"pid": os.getpid(), "health": f"http://127.0.0.1:{listener.getsockname()[1]}"}
with open(sys.argv[sys.argv.index("--ready-file") + 1] + ".new", "w") as file:
    json.dump(ready, file)
os.replace(file.name, file.name.removesuffix(".new"))
time.sleep(1000)
"""


class LostPorts(Ports):
    """Ports that are free when a part asks, and taken when it listens."""

    def __init__(self, taken: int) -> None:
        super().__init__()
        self.taken = [taken] * 2  # Temporal asks twice

    def candidates(self, part: str, *preferred: int | None) -> Iterator[int]:
        while self.taken:
            yield self.taken.pop()
        while True:
            yield free_port()


@pytest.fixture
def taken() -> Iterator[int]:
    """The port of another program."""
    with socket.create_server((LOOPBACK, 0)) as server:
        yield server.getsockname()[1]


def test_postgresql_takes_another(tmp_path: Path, taken: int) -> None:
    with EmbeddedPostgres(tmp_path, durable=False, ports=LostPorts(taken)) as server:
        assert server.port != taken


def test_temporal_takes_others(tmp_path: Path, taken: int) -> None:
    with TemporalDevServer(find_temporal(), tmp_path, ports=LostPorts(taken)) as server:
        ports = {urlsplit(f"//{server.address}").port, urlsplit(str(server.ui_url)).port}
    assert len(ports) == 2
    assert taken not in ports


def test_the_mail_sink_takes_another(tmp_path: Path, taken: int) -> None:
    with MailSink(tmp_path, ports=LostPorts(taken)) as sink:
        assert urlsplit(sink.url).port != taken


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """A stack without servers of its own."""
    given = {
        "DATABASE_URL": "x",
        "TENANT_DATABASE_URL": "x",
        "PLATFORM_DATABASE_URL": "x",
        "TEMPORAL_ADDRESS": "x",
        "PATH": os.environ["PATH"],
    }
    with Stack(tmp_path, environ=given) as stack:
        yield stack


def test_a_program_takes_another(stack: Stack, taken: int) -> None:
    stack.ports.keep("listener", taken)
    with Program(stack, "listener", "-c", LISTENER) as program:
        port = urlsplit(program.ready["health"]).port
    assert port != taken
    assert stack.ports.kept("listener") == port


def test_a_program_keeps_its_port_from_one_start_to_the_next(stack: Stack) -> None:
    ports = set()
    program = Program(stack, "listener", "-c", LISTENER)
    for _ in range(2):
        with program:
            ports.add(program.ready["health"])
    assert len(ports) == 1


def test_a_program_that_fails_for_another_reason_is_not_tried_again(stack: Stack) -> None:
    with pytest.raises(PartMissing, match=r"^the broken did not start\. Its log ends: no table$"):
        Program(stack, "broken", "-c", "import sys; sys.exit('no table')").start()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (
            "import time; time.sleep(1000)",
            r"it was not ready after \d+ s, in which it computed for",
        ),
        ("raise SystemExit(4)", r"it ended with exit code 4\."),
    ],
)
def test_a_start_that_fails_in_silence_says_what_became_of_it(
    stack: Stack, code: str, said: str
) -> None:
    def short(process: OwnedProcess) -> Patience:
        return Patience(process, seconds=0.3, computed=1000, was_busy=lambda: False)

    silent = Program(stack, "silent", "-c", code, patience=short)
    with pytest.raises(PartMissing, match=rf"^the silent did not start: {said}.*wrote nothing"):
        silent.start()
    assert not silent.running


def test_a_program_that_accepts_but_does_not_answer_hangs(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_saas, "ANSWER_SECONDS", 0.1)
    program = Program(stack, "listener", "-c", LISTENER)
    with program:
        assert not program.answers()
        program.ready = {}  # as while it starts
        assert program.answers()


def test_a_mistake_in_the_code_of_a_program_is_told_apart(stack: Stack) -> None:
    with pytest.raises(CodeMistake, match=r"^the broken did not start: NameError: name 'x' is no"):
        Program(stack, "broken", "-c", "x").start()


def test_a_program_is_not_waited_for_once_a_server_has_ended(stack: Stack) -> None:
    code = "import time; time.sleep(1000)"
    program = Program(stack, "waiting", "-c", code, hindered=lambda: "Temporal ended")
    with pytest.raises(PartMissing, match=r"^the waiting did not start, as Temporal ended\.$"):
        program.start()
    assert not program.running


def test_a_program_in_a_hurry_is_not_waited_for(stack: Stack) -> None:
    deaf = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + LISTENER
    program = Program(stack, "listener", "-c", deaf, hurry=lambda: True)
    program.start()
    program.stop()
    assert program.how_it_ended() == "was killed by SIGKILL"
