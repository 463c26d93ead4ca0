"""Owned processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from dev.devstack import launcher
from dev.devstack.processes import OwnedProcess, survivors

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
