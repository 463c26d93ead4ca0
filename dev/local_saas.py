"""Runs parts of the reference SaaS on the local stack: commands, sample data, processes."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import psutil

from dev.devstack.errors import PartMissing, PortInUse
from dev.devstack.last_words import READ_LINES, Ending, ending, last_words
from dev.devstack.outside import CONNECTIONS_VARIABLE, HEALTH_PORTS_NAME, PORTS_NAME
from dev.devstack.ports import LOOPBACK
from dev.devstack.processes import LOG_LINES, OwnedProcess, Patience
from dev.devstack.stack import Stack
from dev.devstack.started import Started
from dev.sample_data.load import load_airlines
from temporal_tenancy import Database, Isolation
from temporal_tenancy.stores import ControlPlaneStores, FileConnectionSecrets

HERE: Final = Path(__file__).parents[1]
WORKER_STOP_SECONDS: Final = 40.0  # longer than the time that running activities get to finish
POLL_SECONDS: Final = 0.05
ANSWER_SECONDS: Final = 3.0
DOOR: Final = "the HTTP door"
TAKEN_PORT: Final = re.compile(r"PortInUse: port (\d+) on \S+ is in use")  # as a program says so

# Variables of the stack that each process does not get: a secret that it lacks cannot leak from it.
WORKER: Final = ("RELAY_DATABASE_URL", "RELAY_LISTEN_DATABASE_URL", "LINK_SECRET")
RELAY: Final = (
    "TENANT_DATABASE_URL",
    "PLATFORM_DATABASE_URL",
    "STORAGE_URL",
    "SECRETS_URL",
    "LINK_SECRET",
    "REDIS_URL",
)
WEB: Final = ("RELAY_DATABASE_URL", "RELAY_LISTEN_DATABASE_URL", "SMTP_URL")
LACKS: Final = {"worker": WORKER, "relay": RELAY, "web": WEB}


class CommandFailed(Exception):
    """A command of `starter.py` exited with an unexpected code."""

    def __init__(self, sentence: str, code: int, said: str = "") -> None:
        """`said` is what the command itself said, such as "StoreBehind: …"."""
        super().__init__(sentence)
        self.code = code
        self.said = said


class CodeMistake(PartMissing):
    """A program cannot start until its code changes."""

    def __init__(self, name: str, error: Ending) -> None:
        """`name` is what a sentence calls the program, and `error` the one that ended it."""
        super().__init__(f"{name} did not start: {error}")
        self.error = error


def starter(stack: Stack, *arguments: str, owner: bool = False, expect: int = 0) -> Any:
    """Runs `starter.py ARGUMENTS --json` as a process, and returns its answer.

    Raises `CommandFailed` when its exit code is not `expect`.
    """
    return json.loads(starter_text(stack, *arguments, "--json", owner=owner, expect=expect))


def starter_text(
    stack: Stack,
    *arguments: str,
    owner: bool = False,
    expect: int = 0,
    columns: int | None = None,
) -> str:
    """Runs `starter.py ARGUMENTS` as `starter` does, and returns its text output.

    `columns` is the width that it has for that; None: its own choice.
    """
    environ = stack.process_environment(owner=owner)
    if columns is not None:
        environ = {**environ, "COLUMNS": str(columns)}
    done = subprocess.run(
        [sys.executable, "starter.py", *arguments],
        cwd=HERE,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != expect:
        command = " ".join(["starter.py", *arguments])
        said = str(ending(done.stderr, HERE) or done.stderr.strip() or done.stdout.strip())
        raise CommandFailed(
            f"{command} exited with {done.returncode}, not {expect}: {said}", done.returncode, said
        )
    return done.stdout


def runtime_database(stack: Stack) -> Database:
    """Returns the stack's database, with engines for the runtime roles."""
    addresses = stack.runtime_environment()
    secrets = store_secrets(stack)
    return Database(
        tenant_url=addresses["TENANT_DATABASE_URL"],
        platform_url=addresses["PLATFORM_DATABASE_URL"],
        stores=lambda made: ControlPlaneStores(made, secrets),
    )


def store_secrets(stack: Stack) -> FileConnectionSecrets | None:
    """Returns the connections of tenants' own databases; None: the stack keeps none."""
    url = stack.runtime_environment().get(CONNECTIONS_VARIABLE)
    return None if url is None else FileConnectionSecrets.from_url(url, CONNECTIONS_VARIABLE)


def load_sample_data(
    stack: Stack, isolation_of: Mapping[str, Isolation] | None = None
) -> dict[str, int]:
    """Loads the 16 airlines and their flights; returns the number of new flights by tenant.

    Those in `isolation_of` get stores of their own, which must have been prepared.
    """

    async def load() -> dict[str, int]:
        database = runtime_database(stack)
        try:
            return await load_airlines(database, store_secrets(stack), isolation_of or {})
        finally:
            await database.dispose()

    return asyncio.run(load())


class Program(Started):
    """A program of the reference SaaS, which writes a ready file and has a port."""

    def __init__(
        self,
        stack: Stack,
        name: str,
        *arguments: str,
        called: str = "",
        lacks: Collection[str] = (),
        hurry: Callable[[], bool] = lambda: False,
        hindered: Callable[[], str] = str,
        patience: Callable[[OwnedProcess], Patience] = Patience,
    ) -> None:
        """
        Args:
            stack: where it runs.
            name: of its log and its ready file.
            arguments: of Python.
            called: what a sentence calls it; "the" and its name if not given.
            lacks: variables of the stack that it does not get.
            hurry: whether to end it at once while it is stopping.
            hindered: why to wait no longer for its start, such as "PostgreSQL was killed by
                SIGKILL"; empty: nothing hinders it.
            patience: how long to wait until it is ready.
        """
        self.name = name
        self.called = called or f"the {name}"
        self._stack = stack
        self._arguments = arguments
        self._lacks = lacks
        self._hurry = hurry
        self._hindered = hindered
        self._patience = patience
        self._process: OwnedProcess | None = None
        self._ready_file = stack.directory / f"{name}.ready"
        self.ready: Mapping[str, Any] = {}  # what it said once it was ready
        self._addresses: Mapping[str, str] = {}  # the stack's when it was started

    @property
    def process(self) -> OwnedProcess:
        """The process, once it has been started."""
        if self._process is None:
            raise RuntimeError(f"{self.called} has not been started.")
        return self._process

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.running

    @property
    def has_old_addresses(self) -> bool:
        """Whether an address of the stack has changed since it was started."""
        return self._addresses != self._stack.environment()

    def environment(self) -> dict[str, str]:
        """Returns the environment that the process actually has."""
        return psutil.Process(self.process.pid).environ()

    def answers(self) -> bool:
        """Asks for its health, and returns whether it answers within `ANSWER_SECONDS`."""
        port = urlsplit(str(self.ready.get("health") or self.ready.get("url", ""))).port
        if port is None:
            return True  # it is still starting
        connection = http.client.HTTPConnection(LOOPBACK, port, timeout=ANSWER_SECONDS)
        try:
            connection.request("GET", "/healthz")
            connection.getresponse()
        except TimeoutError:
            return False
        except (OSError, http.client.HTTPException):
            return True  # it is ending
        finally:
            connection.close()
        return True

    def how_it_ended(self) -> str:
        """Returns how it has ended."""
        return "is not running" if self._process is None else self._process.how_it_ended()

    def log_tail(self, lines: int = LOG_LINES) -> str:
        """Returns the last lines that it has written to its log."""
        return "" if self._process is None else self._process.log_tail(lines)

    def start(self) -> None:
        """Starts it, and returns once it is ready.

        It has its last port or, if another program has taken that, another one.

        Raises:
            CodeMistake: its code is wrong; the message has the error and its place.
            PartMissing: it ended, or was not ready in time; the message has the end of its log.
        """
        while True:
            options, environ = self._port_options()
            try:
                self._run(options, environ)
            except PortInUse as error:
                self._lose_port(error.port)
            else:
                self._keep_port()
                return

    def ask_to_end(self) -> None:
        """Asks it to end, and does not wait."""
        if self._process is not None:
            self._process.ask_to_end()

    def stop(self) -> None:
        """Stops it in order, or at once if there is a hurry."""
        self._ready_file.unlink(missing_ok=True)
        if self._process is not None:
            self._process.stop(timeout=WORKER_STOP_SECONDS, hurry=self._hurry)

    def _port_options(self) -> tuple[list[str], dict[str, str]]:
        """Returns the options and the variables that say on which port it listens."""
        return [], {"WORKER_HEALTH_PORT": str(self._stack.ports.kept(self.name) or 0)}

    def _lose_port(self, port: int) -> None:
        """Notes that another program has `port`, which it was given."""
        self._stack.ports.forget(self.name)

    def _keep_port(self) -> None:
        """Notes the port that it listens on."""
        port = urlsplit(str(self.ready.get("health", ""))).port
        if port is not None:
            self._stack.ports.keep(self.name, port)

    def _run(self, options: list[str], environ: Mapping[str, str]) -> None:
        self._ready_file.unlink(missing_ok=True)
        self.ready = {}
        ready_file = ("--ready-file", str(self._ready_file))
        self._addresses = dict(self._stack.environment())
        process = OwnedProcess(
            [sys.executable, *self._arguments, *options, *ready_file],
            log=self._stack.directory / f"{self.name}.log",
            environ={
                **self._stack.process_environment(without=self._lacks),
                "PYTHONPATH": str(HERE),
                **environ,
            },
        )
        self._process = process
        try:
            patience = self._patience(process)
            while not self._ready_file.exists():
                if not process.running or not patience.is_left():
                    raise self._not_started(process, patience)
                if hindrance := self._hindered():
                    raise PartMissing(f"{self.called} did not start, as {hindrance}.")
                time.sleep(POLL_SECONDS)
            self.ready = json.loads(self._ready_file.read_text())
        except BaseException:
            process.kill()
            raise

    def _not_started(self, process: OwnedProcess, patience: Patience) -> PartMissing:
        log = process.log_tail(READ_LINES)
        taken = TAKEN_PORT.search(log)
        if taken is not None and not process.running:
            return PortInUse(int(taken[1]), LOOPBACK)
        error = None if process.running else ending(log, HERE)
        if error is not None and error.is_mistake:
            return CodeMistake(self.called, error)
        words = "\n".join(last_words(log, HERE))
        if words and not process.running:
            return PartMissing(f"{self.called} did not start. Its log ends: {words}")
        end = f"Its log ends: {words}" if words else "It wrote nothing to its log."
        return PartMissing(f"{self.called} did not start: {patience.how_it_went()}. {end}")


class Door(Program):
    """The HTTP door, on the port of WEB_URL."""

    def _port_options(self) -> tuple[list[str], dict[str, str]]:
        port = urlsplit(self._stack.environment()["WEB_URL"]).port
        health = self._stack.ports.kept(HEALTH_PORTS_NAME) or 0  # with the metrics
        return ["--port", str(port)], {"WEB_HEALTH_PORT": str(health)}

    def _lose_port(self, port: int) -> None:
        if port == self._stack.ports.kept(HEALTH_PORTS_NAME):
            self._stack.ports.forget(HEALTH_PORTS_NAME)
            return
        outside = self._stack.outside
        if outside is None or outside.web_is_given:
            raise PortInUse(port, LOOPBACK)
        outside.choose_web_port()

    def _keep_port(self) -> None:
        port = urlsplit(str(self.ready["url"])).port
        assert port is not None
        self._stack.ports.keep(PORTS_NAME, port)
        health = urlsplit(str(self.ready["health"])).port
        assert health is not None
        self._stack.ports.keep(HEALTH_PORTS_NAME, health)


def make_worker(
    stack: Stack,
    *arguments: str,
    hurry: Callable[[], bool] = lambda: False,
    hindered: Callable[[], str] = str,
) -> Program:
    """Returns `worker.py` for all queues, without the owner's credentials; does not start it."""
    program = str(HERE / "worker.py")
    return Program(
        stack, "worker", program, *arguments, lacks=WORKER, hurry=hurry, hindered=hindered
    )


def make_relay(
    stack: Stack,
    *,
    hurry: Callable[[], bool] = lambda: False,
    hindered: Callable[[], str] = str,
) -> Program:
    """Returns `worker.py --relay`; does not start it."""
    program = str(HERE / "worker.py")
    return Program(stack, "relay", program, "--relay", lacks=RELAY, hurry=hurry, hindered=hindered)


def make_web(
    stack: Stack,
    *,
    hurry: Callable[[], bool] = lambda: False,
    hindered: Callable[[], str] = str,
) -> Program:
    """Returns the HTTP door; does not start it."""
    module = ("-m", "processes.web")
    return Door(stack, "web", *module, called=DOOR, lacks=WEB, hurry=hurry, hindered=hindered)


@contextmanager
def worker(stack: Stack, *arguments: str) -> Iterator[Program]:
    """Runs `worker.py` for all queues inside the block, without the owner's credentials."""
    with make_worker(stack, *arguments) as program:
        yield program


@contextmanager
def relay(stack: Stack) -> Iterator[Program]:
    """Runs `worker.py --relay` inside the block."""
    with make_relay(stack) as program:
        yield program


@contextmanager
def web(stack: Stack) -> Iterator[Program]:
    """Runs the HTTP door inside the block, on the port of WEB_URL."""
    with make_web(stack) as program:
        yield program
