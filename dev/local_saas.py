"""Runs parts of the reference SaaS on the local stack: commands, sample data, processes."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import psutil

from dev.devstack.errors import PartMissing
from dev.devstack.processes import OwnedProcess
from dev.devstack.stack import Stack
from dev.sample_data.load import load_airlines
from temporal_tenancy import Database

HERE: Final = Path(__file__).parents[1]
WORKER_START_SECONDS: Final = 60.0
WORKER_STOP_SECONDS: Final = 40.0  # longer than the time that running activities get to finish
POLL_SECONDS: Final = 0.05

# Variables of the stack that each process does not get: a secret that it lacks cannot leak from it.
WORKER: Final = ("RELAY_DATABASE_URL", "LINK_SECRET")
RELAY: Final = (
    "TENANT_DATABASE_URL",
    "PLATFORM_DATABASE_URL",
    "STORAGE_URL",
    "SECRETS_URL",
    "LINK_SECRET",
)
WEB: Final = ("RELAY_DATABASE_URL", "SMTP_URL")


class CommandFailed(Exception):
    """A command of `starter.py` exited with an unexpected code."""


def starter(stack: Stack, *arguments: str, owner: bool = False, expect: int = 0) -> Any:
    """Runs `starter.py ARGUMENTS --json` as a process, and returns its answer.

    Raises `CommandFailed` when its exit code is not `expect`.
    """
    return json.loads(starter_text(stack, *arguments, "--json", owner=owner, expect=expect))


def starter_text(stack: Stack, *arguments: str, owner: bool = False, expect: int = 0) -> str:
    """Runs `starter.py ARGUMENTS` as `starter` does, and returns its text output."""
    done = subprocess.run(
        [sys.executable, "starter.py", *arguments],
        cwd=HERE,
        env=stack.process_environment(owner=owner),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != expect:
        command = " ".join(["starter.py", *arguments])
        raise CommandFailed(
            f"{command} exited with {done.returncode}, not {expect}: "
            f"{done.stderr.strip() or done.stdout.strip()}"
        )
    return done.stdout


def runtime_database(stack: Stack) -> Database:
    """Returns the stack's database, with engines for the runtime roles."""
    addresses = stack.runtime_environment()
    return Database(
        tenant_url=addresses["TENANT_DATABASE_URL"],
        platform_url=addresses["PLATFORM_DATABASE_URL"],
    )


def load_sample_data(stack: Stack) -> dict[str, int]:
    """Loads the 16 airlines and their flights; returns the number of new flights by tenant."""

    async def load() -> dict[str, int]:
        database = runtime_database(stack)
        try:
            return await load_airlines(database)
        finally:
            await database.dispose()

    return asyncio.run(load())


class WorkerProcess:
    """A running process of the reference SaaS: a worker, a relay or the HTTP door."""

    def __init__(self, process: OwnedProcess, ready: Mapping[str, Any]) -> None:
        self.process = process
        self.ready = ready

    def environment(self) -> dict[str, str]:
        """Returns the environment that the process actually has."""
        return psutil.Process(self.process.pid).environ()


@contextmanager
def worker(stack: Stack, *arguments: str) -> Iterator[WorkerProcess]:
    """Runs `worker.py` for all queues inside the block, without the owner's credentials."""
    with _running(stack, "worker", WORKER, str(HERE / "worker.py"), *arguments) as process:
        yield process


@contextmanager
def relay(stack: Stack) -> Iterator[WorkerProcess]:
    """Runs `worker.py --relay` inside the block."""
    with _running(stack, "relay", RELAY, str(HERE / "worker.py"), "--relay") as process:
        yield process


@contextmanager
def web(stack: Stack) -> Iterator[WorkerProcess]:
    """Runs the HTTP door inside the block, on the port of WEB_URL."""
    port = urlsplit(stack.environment()["WEB_URL"]).port
    with _running(stack, "web", WEB, "-m", "processes.web", "--port", str(port)) as process:
        yield process


@contextmanager
def _running(
    stack: Stack, name: str, lacks: Collection[str], program: str, *arguments: str
) -> Iterator[WorkerProcess]:
    """Runs a program that writes a ready file, on a free health port."""
    environ = stack.process_environment(without=lacks)
    ready = stack.directory / f"{name}.ready"
    ready.unlink(missing_ok=True)
    process = OwnedProcess(
        [sys.executable, program, *arguments, "--ready-file", str(ready)],
        log=stack.directory / f"{name}.log",
        environ=environ | {"PYTHONPATH": str(HERE), "WORKER_HEALTH_PORT": "0"},
    )
    try:
        deadline = time.monotonic() + WORKER_START_SECONDS
        while not ready.exists():
            if not process.running or time.monotonic() > deadline:
                raise PartMissing(f"the {name} did not start. Its log ends: {process.log_tail()}")
            time.sleep(POLL_SECONDS)
        yield WorkerProcess(process, json.loads(ready.read_text()))
    finally:
        process.stop(timeout=WORKER_STOP_SECONDS)
