"""`make demo` and `make dev` as programs: their output is right, and nothing stays behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[3]
ENVIRON = {k: v for k, v in os.environ.items() if not k.endswith("DATABASE_URL")}


@contextmanager
def door(*command: str) -> Iterator[tuple[subprocess.Popen[str], set[psutil.Process]]]:
    """A running program, and all processes that it has been seen to have."""
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env=ENVIRON,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    family: set[psutil.Process] = set()
    try:
        yield process, family
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def read_until(process: subprocess.Popen[str], words: str, family: set[psutil.Process]) -> str:
    """Returns the program's output until it prints `words` or ends."""
    said = ""
    assert process.stdout is not None
    for line in process.stdout:
        said += line
        family.update(psutil.Process(process.pid).children(recursive=True))
        if words in line:
            break
    return said


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


@pytest.mark.timeout(1200)
def test_the_demo_holds_and_leaves_nothing_behind() -> None:
    with door("-m", "dev.demo") as (process, family):
        said = read_until(process, "All of it held", family)
        assert process.wait(30) == 0, said
    for shown in ("58,665", "54,635", "54,173", "48,110", "32,729", "336,776", "192"):
        assert shown in said
    assert "f9  failed     UsageNotBillable" in said
    assert "ha  skipped    TenantSuspended" in said
    assert "catching up ran two and left fourteen alone" in said
    assert "as declared; the peak is" in said
    assert said.count("✓") == 30
    assert left_of(family) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_demo_stops_all_of_it_when_it_is_told_to(number: signal.Signals) -> None:
    with door("-m", "dev.demo") as (process, family):
        read_until(process, "schedules apply", family)
        family.update(psutil.Process(process.pid).children(recursive=True))
        process.send_signal(number)
        process.communicate(timeout=60)
        assert process.returncode == 128 + number
    assert len(family) >= 3  # PostgreSQL, Temporal, the worker
    assert left_of(family) == []


def test_dev_says_where_everything_is_until_ctrl_c(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    with door("-m", "dev", "--directory", str(directory)) as (process, family):
        said = read_until(process, "Ctrl-C stops", family)
        assert "Web UI" in said
        short = (
            f"  export DEVSTACK={directory}\n  ./starter.py run billing.cycle --tenant ua --input "
        )
        assert short in said.replace("\r\n", "\n")
        shell = f"source {directory / 'env'} && {sys.executable} starter.py"
        run = (
            f'{shell} run billing.cycle --tenant ua --input \'{{"period": "2013-04"}}\' '
            "--wait --json"
        )
        done = subprocess.run(
            ["bash", "-c", run], cwd=ROOT, env=ENVIRON, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["result"]["usage_events"] == 5_047
        listed = subprocess.run(
            ["bash", "-c", f"{shell} tenants list --json"],
            cwd=ROOT, env=ENVIRON, capture_output=True, text=True, check=True,
        )  # fmt: skip
        statuses = [tenant["status"] for tenant in json.loads(listed.stdout)]
        assert statuses == ["active"] * 16
        family.update(psutil.Process(process.pid).children(recursive=True))
        assert databases_of(directory) == {
            "worker": {"TENANT", "PLATFORM"},
            "relay": {"RELAY"},
            "web": {"TENANT", "PLATFORM"},
        }
        refused = subprocess.run(
            [sys.executable, "-m", "dev", "--directory", str(directory)],
            cwd=ROOT, env=ENVIRON, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert refused.returncode == 3
        assert refused.stderr.startswith(f"DirectoryInUse: another stack runs in {directory}: ")
        assert f"process {process.pid}, since " in refused.stderr

        ports = (directory / "ports.json").read_text()
        killed = kill_every_part(directory)
        back = [read_until(process, " again… ", family) for _ in killed]
        family.update(psutil.Process(process.pid).children(recursive=True))
        for name in killed:
            assert sum(f"Starting {name} again… " in said for said in back) == 1
        assert (directory / "ports.json").read_text() == ports
        again = subprocess.run(
            ["bash", "-c", run.replace("2013-04", "2013-05")],
            cwd=ROOT, env=ENVIRON, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert json.loads(again.stdout)["result"]["usage_events"] > 0, again.stderr
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        assert process.returncode == 130
    assert left_of(family) == []
    assert (directory / "env").stat().st_mode & 0o777 == 0o600
    assert "DATABASE_URL=" not in re.findall(
        r"^export (.*?=)", (directory / "env").read_text(), re.M
    )
