"""`make demo` and `make dev` as programs: their output is right, and nothing stays behind."""

from __future__ import annotations

import codecs
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue

import psutil
import pytest

ROOT = Path(__file__).parents[3]
ENVIRON = {k: v for k, v in os.environ.items() if not k.endswith("DATABASE_URL")}

# In seconds. On a machine whose processors others keep busy all of it takes ten times as long as
# on an idle one. `make dev` says every 10 s that it waits; the demo waits for a year's backfill.
SILENCE = 600.0
LONGEST = 1200.0  # that one step may take, such as until everything runs
COMMAND = 300.0  # that a command beside it may take
STOPPED = 120.0  # from a signal until it has ended
WHOLE = 2400  # for a test: no wait in it goes on for longer


class Running:
    """A running program: what it has said, and all processes that it has been seen to have."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.family: set[psutil.Process] = set()
        self.said = ""
        self._pieces: SimpleQueue[str] = SimpleQueue()  # an empty one: it says nothing more
        threading.Thread(target=self._read, daemon=True).start()

    def until(self, *patterns: str) -> str:
        """Waits until what it says from now on matches all patterns; returns that.

        Fails, and says what is missing, if it ends before, says nothing for `SILENCE` seconds, or
        has not said it within `LONGEST`.
        """
        missing, said, began = list(patterns), "", time.monotonic()
        while missing:
            lacks = f"it has not said {' and '.join(map(repr, missing))}"
            try:
                piece = self._pieces.get(timeout=SILENCE)
            except Empty:
                pytest.fail(f"{lacks}, and nothing at all for {SILENCE:.0f} s:\n{self.said}")
            if not piece:
                pytest.fail(f"{lacks}, and has ended ({self.process.wait()}):\n{self.said}")
            if time.monotonic() - began > LONGEST:
                pytest.fail(f"{lacks} within {LONGEST:.0f} s:\n{self.said}")
            said += piece
            self.look()
            missing = [each for each in missing if not re.search(each, said, re.MULTILINE)]
        return said

    def look(self) -> None:
        """Notes which processes it has now."""
        self.family.update(psutil.Process(self.process.pid).children(recursive=True))

    def ended(self) -> int:
        """Waits until it has ended; returns its exit code."""
        try:
            return self.process.wait(STOPPED)
        except subprocess.TimeoutExpired:
            pytest.fail(f"it still runs, {STOPPED:.0f} s after it was to end:\n{self.said}")

    def _read(self) -> None:
        # In pieces, because a phase that goes on adds to its line.
        assert self.process.stdout is not None
        decoder = codecs.getincrementaldecoder("utf-8")()
        with suppress(OSError, ValueError):  # closed, at the end of the test
            while piece := os.read(self.process.stdout.fileno(), 65536):
                text = decoder.decode(piece)
                self.said += text
                self._pieces.put(text)
        self._pieces.put("")


@contextmanager
def door(*command: str) -> Iterator[Running]:
    """A program that runs in the block."""
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env=ENVIRON,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield Running(process)
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def in_a_shell(running: Running, command: str) -> str:
    """Runs a command beside a program; returns its standard output."""
    beside = f"Beside it:\n{command}"
    try:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=ROOT, env=ENVIRON, capture_output=True, text=True, timeout=COMMAND, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as late:
        told = f"{late.stdout or b''!r}\n{late.stderr or b''!r}"
        pytest.fail(f"{beside}\nhas not ended after {COMMAND:.0f} s:\n{told}\n{running.said}")
    assert done.returncode == 0, f"{beside}\n{done.stderr}\n{running.said}"
    return done.stdout


def left_of(family: set[psutil.Process]) -> list[psutil.Process]:
    _, alive = psutil.wait_procs(list(family), timeout=10)
    return list(alive)


def kill_every_part(directory: Path) -> list[str]:
    """Kills the servers and the programs of a stack; returns how `make dev` calls them."""
    postmaster = int((directory / "postgres" / "data" / "postmaster.pid").read_text().split()[0])
    programs = [json.loads(path.read_text())["pid"] for path in directory.glob("*.ready")]
    [temporal] = [
        process.pid
        for process in psutil.Process(psutil.Process(postmaster).ppid()).children()
        if "start-dev" in process.cmdline()
    ]
    for pid in (postmaster, temporal, *programs):
        os.kill(pid, signal.SIGKILL)
    return ["PostgreSQL", "Temporal", "the HTTP door", "the worker", "the relay"]


def databases_of(directory: Path) -> dict[str, set[str]]:
    """Returns the roles whose database URL is in each process's environment."""
    return {
        path.stem: {
            name.removesuffix("_DATABASE_URL")
            for name in psutil.Process(json.loads(path.read_text())["pid"]).environ()
            if name.endswith("DATABASE_URL")
        }
        for path in directory.glob("*.ready")
    }


@pytest.mark.timeout(WHOLE)
def test_the_demo_holds_and_leaves_nothing_behind() -> None:
    with door("-m", "dev.demo") as running:
        said = running.until("All of it held")
        assert running.ended() == 0, running.said
    for shown in ("58,665", "54,635", "54,173", "48,110", "32,729", "336,776", "192"):
        assert shown in said
    assert "f9  failed     UsageNotBillable" in said
    assert "ha  skipped    TenantSuspended" in said
    assert "catching up ran two and left fourteen alone" in said
    assert "as declared; the peak is" in said
    assert said.count("✓") == 31
    assert "JetBlue's rows are in a schema of its own, Frontier's in a database" in said
    assert left_of(running.family) == []


@pytest.mark.timeout(WHOLE)
def test_the_demo_stops_all_of_it_when_it_is_told_to() -> None:  # Ctrl-C ends `make dev` below
    number = signal.SIGTERM
    with door("-m", "dev.demo") as running:
        running.until("schedules apply")
        running.look()
        running.process.send_signal(number)
        assert running.ended() == 128 + number, running.said
    assert len(running.family) >= 3  # PostgreSQL, Temporal, the worker
    assert left_of(running.family) == []


@pytest.mark.timeout(WHOLE)
def test_dev_says_where_everything_is_until_ctrl_c(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    with door("-m", "dev", "--directory", str(directory)) as running:
        said = running.until("Ctrl-C stops")
        assert "Web UI" in said
        short = (
            f"  export DEVSTACK={directory}\n  ./starter.py run billing.cycle --tenant ua --input "
        )
        assert short in said
        starter = f"source {directory / 'env'} && {sys.executable} starter.py"

        def events_of(period: str) -> int:
            job = f"""run billing.cycle --tenant ua --input '{{"period": "{period}"}}'"""
            done = in_a_shell(running, f"{starter} {job} --wait --json")
            events: int = json.loads(done)["result"]["usage_events"]
            return events

        assert events_of("2013-04") == 5_047
        listed = in_a_shell(running, f"{starter} tenants list --json")
        assert [tenant["status"] for tenant in json.loads(listed)] == ["active"] * 16
        running.look()
        assert databases_of(directory) == {
            "worker": {"TENANT", "PLATFORM"},
            "relay": {"RELAY"},
            "web": {"TENANT", "PLATFORM"},
        }
        refused = subprocess.run(
            [sys.executable, "-m", "dev", "--directory", str(directory)],
            cwd=ROOT, env=ENVIRON, capture_output=True, text=True, timeout=COMMAND, check=False,
        )  # fmt: skip
        assert refused.returncode == 3
        assert refused.stderr.startswith(f"DirectoryInUse: another stack runs in {directory}: ")
        assert f"process {running.process.pid}, since " in refused.stderr

        ports = (directory / "ports.json").read_text()
        running.process.send_signal(signal.SIGSTOP)  # as a terminal's Ctrl-Z does
        killed = kill_every_part(directory)
        running.process.send_signal(signal.SIGCONT)
        # The programs start at the same time, so that a line may begin anew, and end with another.
        back = running.until(*(rf"^Starting {name} again.* \d+\.\d s$" for name in killed))
        running.look()
        for name in killed:
            title = name[0].upper() + name[1:]
            assert f" {title} was killed by SIGKILL." in back, back
        assert (directory / "ports.json").read_text() == ports
        assert events_of("2013-05") > 0
        running.process.send_signal(signal.SIGINT)
        assert running.ended() == 130, running.said
    assert left_of(running.family) == []
    for name in ("worker", "relay"):  # in order: what ran has come to its end
        log = (directory / f"{name}.log").read_text()
        assert f'"{name}.stopped"' in log
        assert f'"{name}.aborted"' not in log
    assert (directory / "env").stat().st_mode & 0o777 == 0o600
    assert "DATABASE_URL=" not in re.findall(
        r"^export (.*?=)", (directory / "env").read_text(), re.M
    )
