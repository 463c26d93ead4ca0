"""Owned processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from devstack import launcher
from devstack.processes import OwnedProcess

SHELL = "/bin/sh"


def shell(script: str, log: Path) -> OwnedProcess:
    return OwnedProcess([SHELL, "-c", script], log=log, environ=dict(os.environ))


def await_line(process: OwnedProcess, line: str) -> None:
    while line not in process.log.read_text():
        if not process.running:
            raise AssertionError(process.log_tail())
        os.sched_yield()


def test_its_output_is_in_the_log(tmp_path: Path) -> None:
    process = shell("echo out; echo err >&2; exit 3", tmp_path / "log")
    assert (process.wait(10), process.log_tail()) == (3, "out\nerr")


def test_a_process_that_ignores_the_signal_is_killed_with_its_children(tmp_path: Path) -> None:
    process = shell("trap '' TERM; sleep 1000 & echo ready; wait; wait", tmp_path / "log")
    await_line(process, "ready")
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    process.stop(timeout=0.2)
    assert len(family) > 1
    assert psutil.wait_procs(family, timeout=5)[1] == []


def test_it_does_not_get_the_terminals_signals(tmp_path: Path) -> None:
    process = shell("echo ready; read -r line < /dev/tty; sleep 1000", tmp_path / "log")
    try:
        assert os.getsid(process.pid) == os.getpgid(process.pid) == process.pid
    finally:
        process.kill()


def test_a_timeout_says_so(tmp_path: Path) -> None:
    process = shell("sleep 1000", tmp_path / "log")
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
