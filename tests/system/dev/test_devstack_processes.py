"""Owned processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from dev.devstack import launcher
from dev.devstack.processes import OwnedProcess, Patience, survivors

SHELL = "/bin/sh"


def shell(script: str, log: Path) -> OwnedProcess:
    return OwnedProcess([SHELL, "-c", script], log=log, environ=dict(os.environ))


def test_its_output_is_in_the_log(tmp_path: Path) -> None:
    process = shell("echo out; echo err >&2; exit 3", tmp_path / "log")
    assert (process.wait(10), process.log_tail()) == (3, "out\nerr")


def test_a_process_that_ignores_the_signal_is_killed_with_its_children(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    process = shell(f"trap '' TERM; sleep 1000 & echo > '{ready}'; wait", tmp_path / "log")
    ready.read_text()
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    process.stop(timeout=0.2)
    assert len(family) > 1
    assert survivors(family, timeout=5) == []


def test_it_gets_one_signal_however_often_it_is_asked_to_end(tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = "trap 'echo asked' TERM; echo ready; while :; do sleep 0.05; done"
    process = shell(script, log)
    while "ready" not in process.log_tail():
        time.sleep(0.02)
    process.ask_to_end()
    while "asked" not in process.log_tail():
        time.sleep(0.02)
    process.stop(timeout=0.5)  # a second one would tell a worker to end at once
    assert process.log_tail().split() == ["ready", "asked"]


def test_it_has_a_session_of_its_own_so_ctrl_c_does_not_reach_it(tmp_path: Path) -> None:
    process = shell("exec sleep 1000", tmp_path / "log")
    try:
        assert os.getsid(process.pid) == os.getpgid(process.pid) == process.pid
    finally:
        process.kill()


def test_a_timeout_says_so(tmp_path: Path) -> None:
    process = shell("exec sleep 1000", tmp_path / "log")
    try:
        with pytest.raises(TimeoutError, match="still runs after"):
            process.wait(0.05)
    finally:
        process.kill()


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    process = OwnedProcess(["/no/such/program"], log=tmp_path / "log", environ={})
    assert process.wait(10) == launcher.FAILED
    assert process.log_tail().startswith("/no/such/program could not be started")


def test_nothing_starts_once_the_parent_is_gone(tmp_path: Path) -> None:
    trace = tmp_path / "started"
    not_the_parent = str(os.getppid())
    stay = ["-1", "-1", "-1"]
    done = subprocess.run(
        [
            *(sys.executable, launcher.__file__, not_the_parent, str(int(signal.SIGKILL)), *stay),
            *(SHELL, "-c", f"touch '{trace}'"),
        ],
        check=False,
    )
    assert (done.returncode, trace.exists()) == (launcher.FAILED, False)


def waited(process: OwnedProcess, *, is_busy: bool = False, **limits: float) -> float:
    """Waits for a process that never gets ready; returns the seconds."""
    began = time.monotonic()
    patience = Patience(process, was_busy=lambda: is_busy, **limits)
    while patience.is_left():
        time.sleep(0.01)
    return time.monotonic() - began


def test_a_start_that_gets_on_is_waited_for_and_one_that_does_not_is_not(tmp_path: Path) -> None:
    busy = shell("while :; do :; done", tmp_path / "busy")
    idle = shell("sleep 1000", tmp_path / "idle")
    try:
        assert waited(idle, seconds=0.3, computed=0.1, longest=600) < 60
        assert waited(busy, seconds=0.3, computed=0.001, longest=1.0) >= 1.0
        assert waited(idle, is_busy=True, seconds=0.1, computed=0.1, longest=1.0) >= 1.0
    finally:
        busy.kill()
        idle.kill()


def test_the_computing_of_children_counts(tmp_path: Path) -> None:
    process = shell("/bin/sh -c 'while :; do :; done' & wait", tmp_path / "log")
    try:
        while process.computed() < 0.2:
            time.sleep(0.02)
    finally:
        process.kill()
    assert process.computed() == 0.0
