"""A part that hangs is named, and so is one that answers again; real processes."""

from __future__ import annotations

import io
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dev.devstack.load import Load
from dev.devstack.processes import OwnedProcess
from dev.devstack.progress import Progress
from dev.hangs import Deadlines, HangWatch

AT_ONCE = Deadlines(look=0.01, ask=0.0, silence=0.05, stuck=0.1)
WAIT = 20.0  # seconds


class Server:
    """A part whose answer is set."""

    def __init__(self, log: Path) -> None:
        self.process: OwnedProcess | None = OwnedProcess(
            ["/bin/sleep", "1000"], log=log, environ=dict(os.environ)
        )
        self.running = True
        self.machine_is_busy = False
        self.answer: Callable[[], bool] = lambda: True

    def answers(self) -> bool:
        return self.answer()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path / "log")
    yield made
    assert made.process is not None
    made.process.kill()


@pytest.fixture
def said(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Waits until a watch of the server has said something; returns all that it has said."""
    output = io.StringIO()

    def until(words: str) -> str:
        deadline = time.monotonic() + WAIT
        while words not in output.getvalue():
            assert time.monotonic() < deadline, output.getvalue()
            time.sleep(0.01)
        return output.getvalue()

    monkeypatch.setattr(Load, "was_busy", lambda load: server.machine_is_busy)
    with HangWatch(Progress(output), deadlines=AT_ONCE) as watch:
        watch.add("the server", server)
        yield until


def pid_of(server: Server) -> int:
    assert server.process is not None
    return server.process.pid


def test_a_stopped_process_is_named_once_and_when_it_goes_on(
    server: Server, said: Callable[[str], str]
) -> None:
    pid = pid_of(server)
    os.kill(pid, signal.SIGSTOP)
    said(f'The server hangs: its process {pid} is stopped. "kill -CONT {pid}" lets it go on.')
    os.kill(pid, signal.SIGCONT)
    assert said("The server answers again, after ").count("hangs") == 1


def test_one_that_does_not_answer_is_named_once_and_when_it_answers(
    server: Server, said: Callable[[str], str]
) -> None:
    asked: list[bool] = []

    def hang() -> bool:
        asked.append(True)
        return False

    server.answer = hang
    said(f"The server does not answer, although its process {pid_of(server)} runs. ")
    before = len(asked)
    while len(asked) < before + 5:
        time.sleep(0.01)
    server.answer = lambda: True
    assert said("The server answers again, after ").count("does not answer") == 1


def test_one_that_does_nothing_is_said_to_be_stuck_and_how_to_start_it_again(
    server: Server, said: Callable[[str], str]
) -> None:
    server.answer = lambda: False
    words = said("The server has neither answered nor computed for ")
    assert f'"kill -9 {pid_of(server)}" makes it start again.' in words
    assert words.index("It may only be slow.") < words.index("neither")


@pytest.mark.parametrize("is_busy", [True, False])
def test_one_that_is_slow_is_not_said_to_be_stuck(
    server: Server, said: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, is_busy: bool
) -> None:
    server.machine_is_busy = is_busy
    if not is_busy:
        monkeypatch.setattr(OwnedProcess, "computed", lambda process: time.monotonic())
    asked: list[bool] = []

    def hang() -> bool:
        asked.append(True)
        return False

    server.answer = hang
    why = "The machine is busy." if is_busy else "It computes."
    said(f"{why} It may only be slow.")
    began = time.monotonic()
    before = len(asked)
    while len(asked) < before + 5 or time.monotonic() < began + 2 * AT_ONCE.stuck:
        time.sleep(0.01)
    assert "kill" not in said("")


def test_one_that_is_started_again_meanwhile_is_not_said_to_hang(
    server: Server, said: Callable[[str], str]
) -> None:
    asked: list[bool] = []

    def fail() -> bool:
        asked.append(True)
        raise OSError("it has just been stopped")

    server.answer = fail
    while len(asked) < 20:
        time.sleep(0.01)
    assert said("") == ""


def test_a_stopped_process_ends_when_it_is_asked_to(server: Server) -> None:
    os.kill(pid_of(server), signal.SIGSTOP)
    assert server.process is not None
    server.process.ask_to_end()
    assert server.process.wait(WAIT) == -signal.SIGTERM
