"""What `make dev` says and returns when it cannot do what it is asked to."""

from __future__ import annotations

import io
import os
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import cast

import pytest

from dev import command, local_saas
from dev.devstack.errors import PartMissing
from dev.devstack.last_words import Ending
from dev.devstack.progress import Progress
from dev.devstack.stack import Stack
from dev.devstack.temporal_part import TemporalPart
from dev.hangs import HangWatch
from dev.local_saas import CodeMistake, CommandFailed, Program

GIVEN = {
    "DATABASE_URL": "x",
    "TENANT_DATABASE_URL": "x",
    "PLATFORM_DATABASE_URL": "x",
    "TEMPORAL_ADDRESS": "x",
}
MISTAKE = CodeMistake("the worker", Ending("NameError: name 'x'", "workflows/a.py, line 3", True))


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that names all servers."""
    for name, value in GIVEN.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("given")
def test_a_file_in_the_place_of_the_directory_is_a_wrong_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file\x1b[2J"
    file.touch()
    assert command.main(["--directory", str(file)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("UsageError: ")
    assert "\x1b" not in said
    assert said.count("\n") == 1


@pytest.mark.usefixtures("given")
@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (CommandFailed("starter.py migrate exited with 1: no", 1), 1, "CommandFailed: starter.py"),
        (CommandFailed("starter.py migrate exited with 3: no", 3), 3, "CommandFailed: starter.py"),
        (CommandFailed("a\nb: No space left on device\nc", 1), 1, "DiskFull: "),
        (OSError(28, "No space left on device"), 3, "DiskFull: "),
        (OSError(30, "Read-only file system"), 3, "OSError: [Errno 30] Read-only file system"),
        (MISTAKE, 3, "CodeMistake: the worker did not start: NameError: name 'x' (workflows/a.py"),
    ],
)
def test_what_fails_while_it_starts_ends_it_with_few_words(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    code: int,
    said: str,
) -> None:
    def fail(stack: Stack, *arguments: str, owner: bool = False) -> None:
        raise error

    monkeypatch.setattr(local_saas, "starter", fail)
    assert command.main(["--directory", str(tmp_path / "state")]) == code
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(said)
    assert len(lines) == (2 if said == "DiskFull: " else 1)


class Broken(Program):
    """A program whose code is wrong."""

    def start(self) -> None:
        raise MISTAKE


def test_a_program_whose_code_is_wrong_does_not_end_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = io.StringIO()
    dev = command.Dev(Progress(output))
    applied: list[str] = []

    def apply(stack: Stack, *arguments: str) -> None:
        if not applied:
            applied.append("no")
            raise CommandFailed("starter.py schedules apply exited with 1: no", 1)
        applied.append("yes")

    monkeypatch.setattr(local_saas, "starter", apply)
    with Stack(tmp_path, environ=GIVEN | {"PATH": os.environ["PATH"]}) as stack:
        with HangWatch(Progress(output)) as hangs:
            broken = dev.start_programs({"the worker": Broken(stack, "worker")}, hangs)
        dev.apply_schedules(stack, is_broken=bool(broken))
        assert broken == ["the worker"]
        dev.apply_schedules(stack, is_broken=True)
        dev.apply_schedules(stack, is_broken=True)
    assert applied == ["no", "yes"]
    said = output.getvalue()
    assert "The worker did not start: NameError: name 'x' (workflows/a.py, line 3)\n" in said
    assert "The schedules are not applied: starter.py schedules apply exited with 1: no\n" in said


class Waiting(Program):
    """A program that is ready once all of them are being started."""

    barrier: threading.Barrier

    def start(self) -> None:
        self.barrier.wait()


def test_the_programs_start_at_the_same_time(tmp_path: Path) -> None:
    output = io.StringIO()
    dev = command.Dev(Progress(output))
    Waiting.barrier = threading.Barrier(3, timeout=20.0)
    with (
        Stack(tmp_path, environ=GIVEN | {"PATH": os.environ["PATH"]}) as stack,
        HangWatch(Progress(output)) as hangs,
    ):
        programs: dict[str, Program] = {
            f"part {number}": Waiting(stack, f"part{number}") for number in range(3)
        }
        assert dev.start_programs(programs, hangs) == []
    assert "Starting part 2" in output.getvalue()


class Hindered(Program):
    """A program that does not start."""

    def start(self) -> None:
        raise PartMissing("the worker did not start, as Temporal was killed.")


@pytest.mark.parametrize("ended", ["", "Temporal was killed"])
def test_a_program_that_a_server_hinders_is_left_to_the_supervisor(
    tmp_path: Path, ended: str
) -> None:
    output = io.StringIO()
    dev = command.Dev(Progress(output))
    with (
        Stack(tmp_path, environ=GIVEN | {"PATH": os.environ["PATH"]}) as stack,
        HangWatch(Progress(output)) as hangs,
        nullcontext() if ended else pytest.raises(PartMissing),
    ):
        programs: dict[str, Program] = {"the worker": Hindered(stack, "worker")}
        assert dev.start_programs(programs, hangs, ended=lambda: ended) == []
    assert ("as Temporal was killed." in output.getvalue()) is bool(ended)


@pytest.mark.usefixtures("given")
def test_a_server_that_ends_while_the_stack_starts_is_what_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(stack: Stack, *arguments: str, owner: bool = False) -> None:
        raise CommandFailed("starter.py migrate exited with 3: no", 3)

    monkeypatch.setattr(local_saas, "starter", fail)
    monkeypatch.setattr(command, "_ended", lambda servers: "PostgreSQL was killed by SIGKILL")
    assert command.main(["--directory", str(tmp_path / "state")]) == 3
    assert capsys.readouterr().err == (
        "ServerEnded: PostgreSQL was killed by SIGKILL while the stack started. What is kept is "
        "not lost: start it again.\n"
    )


def test_stores_that_are_behind_do_not_keep_the_stack_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = io.StringIO()
    dev = command.Dev(Progress(output))
    said = "StoreBehind: 1 store could not be migrated, and stayed as before."

    def fail(stack: Stack, *arguments: str, owner: bool = False) -> None:
        raise CommandFailed(f"starter.py migrate exited with 1, not 0: {said}", 1, said)

    monkeypatch.setattr(local_saas, "starter", fail)
    stack = Stack(tmp_path, environ=GIVEN | {"PATH": os.environ["PATH"]})
    dev.migrate(stack)
    assert f"  {said}\n" in output.getvalue()
    said = "RowsHidden: the migration reads rows."
    with pytest.raises(CommandFailed):
        dev.migrate(stack)


def test_schedules_that_a_slow_server_does_not_take_are_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = io.StringIO()
    dev = command.Dev(Progress(output))
    answers = [3, 3, 0]

    def apply(stack: Stack, *arguments: str) -> None:
        if code := answers.pop(0):
            raise CommandFailed(f"starter.py schedules apply exited with {code}: slow", code)

    monkeypatch.setattr(local_saas, "starter", apply)
    monkeypatch.setattr(command, "RETRY_SECONDS", 0.0)
    stack = Stack(tmp_path, environ=GIVEN | {"PATH": os.environ["PATH"]})
    with pytest.raises(CommandFailed):  # a server of somebody else
        dev.apply_schedules(stack, is_broken=False)
    stack.temporal = cast("TemporalPart", object())
    dev.apply_schedules(stack, is_broken=False)
    assert "exited with 3: slow\n  They are tried again every 0 s.\n" in output.getvalue()
    dev.retry_schedules(stack)
    assert answers == []
    dev.retry_schedules(stack)


@pytest.mark.parametrize(
    ("works", "said"), [(False, "Stopping.\n"), (True, "Stopping. The worker finishes what runs")]
)
def test_a_stop_is_said_as_it_is(works: bool, said: str) -> None:
    output = io.StringIO()
    dev = command.Dev(Progress(output))
    dev.works = works
    dev.say_stop(1)
    assert output.getvalue().startswith(f"\n{said}")
    dev.say_stop(2)
    assert output.getvalue().endswith("\nEnding at once.\n")
