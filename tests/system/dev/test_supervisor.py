"""Parts that die are started again, or given up; real processes."""

from __future__ import annotations

import io
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from dev.devstack.errors import PartMissing
from dev.devstack.last_words import Ending
from dev.devstack.processes import OwnedProcess
from dev.devstack.progress import Progress
from dev.local_saas import CodeMistake
from dev.sources import Sources
from dev.supervisor import Part, Program, Restarts, Supervisor

AT_ONCE = Restarts(pauses=(0.0, 0.0, 0.0), rest=0.0, steady=3600.0, reread=0.0)
MISTAKE = CodeMistake("the worker", Ending("NameError: name 'x'", "workflows/a.py, line 3", True))
WAIT = 20.0  # seconds


class Shell:
    """A part that runs a script."""

    def __init__(self, script: str, log: Path) -> None:
        self.script = script
        self.log = log
        self.starts = 0
        self.fails = 0  # starts that fail
        self.error: Exception = PartMissing("it does not answer")
        self.before: Callable[[], object] = lambda: None  # is called in a start
        self.process: OwnedProcess | None = None
        self.has_old_addresses = True

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.running

    def start(self) -> None:
        self.starts += 1
        self.before()
        if self.fails:
            self.fails -= 1
            raise self.error
        self.process = OwnedProcess(
            ["/bin/sh", "-c", self.script], log=self.log, environ=dict(os.environ)
        )

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()

    def kill(self) -> None:
        assert self.process is not None
        while not self.process.log_tail():  # it has not begun yet
            time.sleep(0.01)
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(WAIT)

    def how_it_ended(self) -> str:
        assert self.process is not None
        return self.process.how_it_ended()

    def log_tail(self, lines: int) -> str:
        assert self.process is not None
        return self.process.log_tail(lines)


LASTING = "echo I live; exec sleep 1000"
BROKEN = "echo 'no such table'; exit 3"

Make = Callable[..., Shell]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Starts parts, and stops them at the end."""
    made: list[Shell] = []

    def start(script: str = LASTING) -> Shell:
        part = Shell(script, tmp_path / f"{len(made)}.log")
        made.append(part)
        part.start()
        return part

    yield start
    for part in made:
        part.stop()


class Watch:
    """A supervisor, and what it has said."""

    def __init__(
        self,
        servers: Mapping[str, Part],
        programs: Mapping[str, Program],
        restarts: Restarts = AT_ONCE,
        root: Path = Path("/nonexistent"),
    ) -> None:
        self.output = io.StringIO()
        self.mends = 0
        self.addresses = {"TEMPORAL_ADDRESS": "127.0.0.1:1"}
        self.moves: list[str] = []
        self.supervisor = Supervisor(
            servers,
            programs,
            progress=Progress(self.output),
            addresses=lambda: self.addresses,
            moved=lambda: self.moves.append(self.addresses["TEMPORAL_ADDRESS"]),
            mended=self._note_mend,
            sources=Sources(root),
            restarts=restarts,
        )

    def _note_mend(self) -> None:
        self.mends += 1

    def until(self, condition: Callable[[], bool]) -> str:
        """Looks until `condition` holds; returns what was said."""
        deadline = time.monotonic() + WAIT
        while not condition():
            assert time.monotonic() < deadline, self.output.getvalue()
            self.supervisor.look()
            time.sleep(0.01)
        return self.output.getvalue()


def test_a_killed_part_is_named_with_its_last_lines_and_started_again(make: Make) -> None:
    worker, relay = make(), make()
    watch = Watch({}, {"the worker": worker, "the relay": relay})
    worker.kill()
    said = watch.until(lambda: worker.starts == 2 and worker.running)
    assert "The worker was killed by SIGKILL. Its log ends:\n    I live\n" in said
    assert "Starting the worker again… " in said
    assert relay.starts == 1


def test_parts_that_die_together_start_at_the_same_time(make: Make) -> None:
    parts = [make() for _ in range(3)]
    all_start = threading.Barrier(3, timeout=WAIT)  # none goes on before the others have begun
    for part in parts:
        part.before = all_start.wait
        part.kill()
    watch = Watch({}, {f"part {number}": part for number, part in enumerate(parts)})
    said = watch.until(lambda: all(part.starts == 2 and part.running for part in parts))
    assert not all_start.broken
    assert "was not started" not in said


def test_a_part_that_dies_while_another_one_starts_is_started_again(make: Make) -> None:
    slow, other = make(), make()
    watch = Watch({}, {"the worker": slow, "the relay": other})
    go_on = threading.Event()
    slow.before = lambda: go_on.wait(WAIT)
    slow.kill()
    watch.until(lambda: slow.starts == 2)
    other.kill()
    watch.until(lambda: other.starts == 2 and other.running)
    go_on.set()
    watch.until(lambda: slow.running)


def test_one_that_dies_again_and_again_is_given_up_and_the_others_go_on(make: Make) -> None:
    worker, relay = make(BROKEN), make()
    watch = Watch({}, {"the worker": worker, "the relay": relay})
    said = watch.until(lambda: watch.supervisor.given_up == ["the worker"])
    assert worker.starts == 1 + len(AT_ONCE.pauses)
    assert said.count("ended with exit code 3. Its log ends:\n    no such table\n") == 4
    assert "The worker is given up after 3 tries; the other parts go on." in said
    assert relay.running


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with one source file."""
    made = tmp_path / "project"
    (made / "workflows").mkdir(parents=True)
    (made / "workflows" / "a.py").write_text("x")
    return made


def test_one_that_is_given_up_starts_again_when_a_source_changes(make: Make, root: Path) -> None:
    worker, relay = make(BROKEN), make()
    watch = Watch({}, {"the worker": worker, "the relay": relay}, root=root)
    watch.until(lambda: watch.supervisor.given_up == ["the worker"])
    worker.script = LASTING
    watch.supervisor.look()
    assert watch.supervisor.given_up == ["the worker"]
    (root / "workflows" / "b.py").write_text("y = 1")
    said = watch.until(lambda: watch.mends > 0)
    assert "workflows/b.py changed.\nStarting the worker again… " in said
    assert (worker.running, relay.starts) == (True, 1)
    assert (watch.supervisor.given_up, watch.mends) == ([], 1)


def test_a_mistake_in_the_code_is_named_once_and_waited_for(make: Make, root: Path) -> None:
    worker, relay = make(), make()
    watch = Watch({}, {"the worker": worker, "the relay": relay}, root=root)
    worker.fails, worker.error = 2, MISTAKE
    worker.kill()
    said = watch.until(lambda: watch.supervisor.given_up == ["the worker"])
    assert "The worker did not start: NameError: name 'x' (workflows/a.py, line 3)\n" in said
    for _ in range(3):
        watch.supervisor.look()
    assert worker.starts == 2
    (root / "workflows" / "a.py").write_text("still wrong")
    watch.until(lambda: worker.starts == 3 and watch.supervisor.given_up == ["the worker"])
    assert watch.mends == 0
    (root / "workflows" / "a.py").unlink()
    watch.until(lambda: watch.mends > 0)
    assert (worker.running, relay.starts) == (True, 1)
    assert (watch.supervisor.given_up, watch.mends) == ([], 1)


def test_a_change_starts_all_that_wait_for_it_before_it_counts_as_mended(
    make: Make, root: Path
) -> None:
    parts = {"the worker": make(BROKEN), "the relay": make(BROKEN)}
    watch = Watch({}, parts, root=root)
    watch.until(lambda: len(watch.supervisor.given_up) == 2)
    for part in parts.values():
        part.script = LASTING
    (root / "workflows" / "a.py").unlink()
    said = watch.until(lambda: watch.mends > 0)
    assert said.count("workflows/a.py changed.") == 1
    assert all(part.running for part in parts.values())
    assert (watch.mends, watch.supervisor.given_up) == (1, [])


def test_a_change_before_it_died_is_in_the_next_start_anyway(make: Make, root: Path) -> None:
    worker = make()
    watch = Watch({}, {"the worker": worker}, root=root)
    (root / "workflows" / "a.py").write_text("changed while it ran")
    worker.kill()
    said = watch.until(lambda: worker.running)
    assert "changed" not in said


def test_a_change_in_the_midst_of_a_failing_start_counts(make: Make, root: Path) -> None:
    worker = make()
    watch = Watch({}, {"the worker": worker}, root=root)
    start = worker.start

    def mend_meanwhile() -> None:
        if worker.fails:
            (root / "workflows" / "a.py").write_text("mended")
        start()

    worker.start = mend_meanwhile  # type: ignore[method-assign]
    worker.fails, worker.error = 1, MISTAKE
    worker.kill()
    watch.until(lambda: worker.running)
    assert worker.starts == 3


def test_one_that_did_not_start_with_the_others_waits_for_a_change(make: Make, root: Path) -> None:
    worker, relay = make("true"), make()
    watch = Watch({}, {"the worker": worker, "the relay": relay}, root=root)
    watch.supervisor.await_change("the worker")
    watch.supervisor.look()
    assert worker.starts == 1
    worker.script = LASTING
    (root / "new.py").touch()
    watch.until(lambda: worker.running)


def test_one_that_is_given_up_starts_again_with_a_server(make: Make) -> None:
    server, worker = make(), make(BROKEN)
    watch = Watch({"PostgreSQL": server}, {"the worker": worker})
    watch.until(lambda: watch.supervisor.given_up == ["the worker"])
    worker.script = LASTING
    server.kill()
    watch.until(lambda: worker.running)
    assert watch.supervisor.given_up == []


def test_a_server_is_never_given_up(make: Make) -> None:
    server = make()
    watch = Watch({"PostgreSQL": server}, {"the worker": make()})
    server.fails = 10
    server.kill()
    said = watch.until(lambda: server.running)
    assert server.starts == 12
    assert "It is tried again every 0 s; the other parts go on." in said


def test_a_program_that_dies_with_its_server_is_one_sentence(make: Make) -> None:
    server, worker = make(), make("echo 'connection refused'; exec sleep 1000")
    watch = Watch({"PostgreSQL": server}, {"the worker": worker})
    server.kill()
    worker.kill()
    said = watch.until(lambda: worker.running)
    assert "The worker was killed by SIGKILL. It starts again once PostgreSQL runs.\n" in said
    assert "connection refused" not in said


def test_whatever_keeps_a_part_from_starting_the_others_go_on(make: Make) -> None:
    server, worker = make(), make()
    watch = Watch({"PostgreSQL": server}, {"the worker": worker})
    server.fails, server.error = 2, OSError(28, "No space left on device")
    server.kill()
    said = watch.until(lambda: server.running)
    assert "OSError: [Errno 28] No space left on device\n" in said
    assert worker.starts == 1


def test_one_that_does_not_start_is_tried_again(make: Make) -> None:
    server = make()
    watch = Watch({"Temporal": server}, {"the worker": make()})
    server.kill()
    server.fails = 2
    said = watch.until(lambda: server.running)
    assert said.count("Temporal was not started:\n    it does not answer\n") == 2


def test_a_program_waits_for_the_servers_and_is_not_at_fault(make: Make) -> None:
    server, worker = make(), make()
    pauses = (0.0,) * 50
    watch = Watch({"Temporal": server}, {"the worker": worker}, Restarts(pauses, steady=3600.0))
    server.kill()
    worker.kill()
    server.fails = 5
    watch.until(lambda: server.fails == 0)
    assert worker.starts == 1
    watch.until(lambda: worker.running)
    assert (server.running, worker.starts) == (True, 2)


def test_earlier_deaths_of_one_that_ran_for_long_are_forgotten(make: Make) -> None:
    worker = make()
    watch = Watch({}, {"the worker": worker}, Restarts((0.0,), steady=0.05))
    for starts in (2, 3, 4):
        worker.kill()
        watch.until(lambda starts=starts: worker.starts == starts)  # type: ignore[misc]
        deadline = time.monotonic() + 0.2
        watch.until(lambda deadline=deadline: time.monotonic() > deadline)  # type: ignore[misc]
    assert watch.supervisor.given_up == []


def test_programs_start_again_when_a_server_comes_back_elsewhere(make: Make) -> None:
    server, worker, door = make(), make(), make()
    door.has_old_addresses = False  # it has found the new one itself
    watch = Watch({"Temporal": server}, {"the worker": worker, "the door": door})
    watch.addresses = {"TEMPORAL_ADDRESS": "127.0.0.1:2"}
    said = watch.until(lambda: worker.starts == 2)
    assert watch.moves == ["127.0.0.1:2"]
    assert "A server is on another port" in said
    watch.supervisor.look()
    assert (worker.starts, server.starts, door.starts) == (2, 1, 1)


def test_what_a_program_has_written_cannot_steer_the_terminal(make: Make) -> None:
    worker = make(r"printf '\033[2J\342\200\256evil\n'; exit 1")
    watch = Watch({}, {"the worker": worker})
    said = watch.until(lambda: watch.supervisor.given_up != [])
    assert "\\x1b[2J\\u202eevil" in said
    assert "\x1b" not in said
