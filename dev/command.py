"""`make dev`: runs the whole reference SaaS until Ctrl-C, and starts again what dies."""

from __future__ import annotations

import argparse
import errno
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from sqlalchemy.exc import DBAPIError

from dev import local_saas
from dev.devstack.errors import NoDirectory, PartMissing
from dev.devstack.progress import Progress
from dev.devstack.signals import orderly_stop
from dev.devstack.stack import (
    DIRECTORY_VARIABLE,
    ENV_FILE,
    ENV_SUFFIX,
    OWNER_FILE,
    REDIS_VARIABLE,
    SLOW_STOP,
    Stack,
    without_own,
)
from dev.hangs import HangWatch
from dev.local_saas import HERE, CodeMistake, CommandFailed, Program
from dev.own_stores import ISOLATION_OF, prepare_stores
from dev.sample_data.airlines import FLIGHTS
from dev.sources import Sources
from dev.starts import begin
from dev.supervisor import Part, Supervisor, mistake
from temporal_tenancy.core import printable

DIRECTORY: Final = HERE / ".devstack"
FULL: Final = (errno.ENOSPC, errno.EDQUOT)
NOT_REACHABLE: Final = 3  # an exit code of `starter.py`
STORE_BEHIND: Final = "StoreBehind: "  # how the command begins that left a store as it was
RETRY_SECONDS: Final = 10.0  # between two tries to apply the schedules


def main(arguments: Sequence[str]) -> int:
    """Starts everything, prints the addresses, and waits; returns the exit code.

    The code is 128 + n after signal n, 1 if a command failed, 2 for a wrong option, and 3 if
    something needed is missing.
    """
    parser = argparse.ArgumentParser(prog="make dev", description=__doc__)
    parser.add_argument("--directory", type=Path, default=DIRECTORY, help="where to keep the state")
    directory = parser.parse_args(arguments).directory
    progress = Progress()
    dev = Dev(progress)
    with orderly_stop(dev.say_stop) as hurry:
        try:
            environ = without_own(os.environ, directory)
            with Stack(directory, environ=environ, outside=True, progress=progress) as stack:
                dev.serve(stack, hurry)
        except NoDirectory as error:
            return _refuse(f"UsageError: {error}", 2)
        except (PartMissing, OSError) as error:
            return _refuse(_told(error, directory), 3)
        except CommandFailed as error:
            code = 3 if error.code == NOT_REACHABLE else 1
            return _refuse(_told(error, directory), code)
        except DBAPIError as error:  # while the flights are loaded
            return _refuse(_told(error.orig or error, directory), 1)
    return 0


def _told(error: Exception, directory: Path) -> str:
    """Returns what to say of an error: a full disk's own sentence, or all that a part says."""
    said = f"{type(error).__name__}: {error}"
    for line in said.splitlines():
        if any(os.strerror(number) in line for number in FULL):
            return (
                f"DiskFull: {directory} cannot be written. Make room, and start again: what is "
                f"kept there is not lost.\n  {line.strip()}"
            )
    return said


def _refuse(sentence: str, code: int) -> int:
    print(printable(sentence, lines=True), file=sys.stderr)
    return code


class ServerEnded(PartMissing):
    """A server has ended while the rest of the stack started."""


class Dev:
    """One run of `make dev`."""

    def __init__(self, progress: Progress) -> None:
        """`progress` says what happens."""
        self._progress = progress
        self.works = False  # whether a worker may have something to finish
        self._has_schedules = False
        self._retry: float | None = None  # when to apply them again, on the monotonic clock
        self._stops = False

    def say_stop(self, times: int) -> None:
        """Says, at the first signal, that it stops, and at the second one that it does so now."""
        if times == 1 and self.works:
            self._progress.say(
                "\nStopping. The worker finishes what runs, for at most 30 s; Ctrl-C again ends it "
                "at once."
            )
        elif times == 1:
            self._progress.say("\nStopping.")
        elif times == 2:
            self._progress.say("Ending at once.")

    def serve(self, stack: Stack, hurry: Callable[[], bool]) -> None:
        """Starts everything on the servers, and watches it; a signal ends it."""
        progress = self._progress
        began = time.monotonic()
        sources = Sources(HERE)
        code = sources.snapshot()
        with ExitStack() as parts:
            hangs = parts.enter_context(HangWatch(progress))
            if stack.postgres is not None:
                hangs.add("PostgreSQL", stack.postgres)
            if stack.temporal is not None:
                hangs.add("Temporal", stack.temporal)
            servers = _servers(stack)

            def hindered() -> str:
                return "make dev stops" if self._stops else _ended(servers)

            with _telling(lambda: _ended(servers)):
                self._fill(stack)
            programs = {
                local_saas.DOOR: local_saas.make_web(stack, hurry=hurry, hindered=hindered),
                "the worker": local_saas.make_worker(stack, hurry=hurry, hindered=hindered),
                "the relay": local_saas.make_relay(stack, hurry=hurry, hindered=hindered),
            }
            supervisor = Supervisor(
                servers,
                programs,
                progress=progress,
                addresses=stack.environment,
                moved=partial(stack.write_env_files, local_saas.LACKS),
                mended=lambda: self.apply_schedules(stack, is_broken=True),
                sources=sources,
                code=code,
            )
            parts.callback(self._stop, programs, hangs)
            broken = self.start_programs(programs, hangs, ended=lambda: _ended(servers))
            self.apply_schedules(stack, is_broken=bool(broken))
            stack.write_env_files(local_saas.LACKS)
            _show(stack, programs, progress)
            lacking = [*broken, *([] if self._has_schedules else ["the schedules"])]
            but = f" but {' and '.join(lacking)}" if lacking else ""
            progress.say(
                f"All of it{but} runs, {time.monotonic() - began:.0f} s after the servers."
            )
            progress.say("Ctrl-C stops everything.")
            for name in broken:
                supervisor.await_change(name)
            self.works = True
            supervisor.run(meanwhile=lambda: self.retry_schedules(stack))

    def _fill(self, stack: Stack) -> None:
        self.migrate(stack)
        own = ISOLATION_OF if stack.postgres is not None else {}  # else nobody asked for databases
        if own:
            with self._progress.phase("Preparing a schema and a database for two airlines"):
                prepare_stores(stack, partial(local_saas.starter, stack, owner=True))
        with self._progress.phase(f"Loading what is missing of the airlines' {FLIGHTS:,} flights"):
            loaded = sum(local_saas.load_sample_data(stack, own).values())
        self._progress.say(f"  {loaded:,} were loaded." if loaded else "  None was missing.")

    def migrate(self, stack: Stack) -> None:
        """Migrates the database; goes on where stores are behind, as whoever mends them needs it.

        Raises `CommandFailed` for anything else.
        """
        behind = ""
        with self._progress.phase("Migrating the database"):
            try:
                local_saas.starter(stack, "migrate", "--harden", "--yes", owner=True)
            except CommandFailed as error:
                if not error.said.startswith(STORE_BEHIND):
                    raise
                behind = error.said
        if behind:
            self._progress.say(
                f"  {printable(behind, lines=True)}\n"
                '  Until then their tenants\' jobs wait; "./starter.py migrate --status" says why.'
            )

    def start_programs(
        self,
        programs: Mapping[str, Program],
        hangs: HangWatch,
        *,
        ended: Callable[[], str] = str,
    ) -> list[str]:
        """Starts the programs, at the same time; returns the names of those whose code is wrong.

        One that does not start as a server has ended is left to the supervisor; `ended` says which
        one, and how.
        """

        def start(name: str, program: Program) -> None:
            with self._progress.phase(f"Starting {name}"):
                program.start()

        for name, program in programs.items():
            hangs.add(name, program)
        starts = {
            begin(partial(start, name, program), name): name for name, program in programs.items()
        }
        self.works = self.works or "the worker" in programs
        broken = []
        for started in as_completed(starts):
            name = starts[started]
            try:
                started.result()
            except CodeMistake as error:
                self._progress.say(mistake(name, error))
                broken.append(name)
            except PartMissing as error:
                if not ended():
                    raise
                self._progress.say(printable(str(error), lines=True))
        return [name for name in programs if name in broken]

    def apply_schedules(self, stack: Stack, *, is_broken: bool) -> None:
        """Applies the schedules, unless they are.

        Where the code is wrong they are once it is mended, and where a server of the stack's own
        does not answer, which may be slow or start again, they are tried again later.
        """
        if self._has_schedules:
            return
        try:
            with self._progress.phase("Applying the schedules"):
                local_saas.starter(stack, "schedules", "apply")
        except CommandFailed as error:
            why = f"The schedules are not applied: {printable(str(error), lines=True)}\n"
            if error.code == NOT_REACHABLE and stack.temporal is not None:
                self._retry = time.monotonic() + RETRY_SECONDS
                self._progress.say(f"{why}  They are tried again every {RETRY_SECONDS:g} s.")
            elif is_broken:
                self._progress.say(f"{why}  They are once a source file has changed.")
            else:
                raise
        else:
            self._has_schedules = True

    def retry_schedules(self, stack: Stack) -> None:
        """Applies the schedules, if a server was too slow for it and it is time to try again."""
        if not self._has_schedules and self._retry is not None and self._retry <= time.monotonic():
            self._retry = None
            self.apply_schedules(stack, is_broken=True)

    def _stop(self, programs: Mapping[str, Program], hangs: HangWatch) -> None:
        self._stops = True  # no program that is being started outlives this
        hangs.stop()
        for program in programs.values():
            program.ask_to_end()
        with ExitStack() as stops:  # each is stopped, even if another one cannot be
            for name, program in programs.items():
                stops.callback(self._stop_one, name, program)

    def _stop_one(self, name: str, program: Program) -> None:
        with self._progress.phase(f"Stopping {name}", after=SLOW_STOP):
            program.stop()


def _ended(servers: Mapping[str, Part]) -> str:
    """Returns which servers have ended, and how; an empty text if all run."""
    return " and ".join(
        f"{name} {server.how_it_ended()}" for name, server in servers.items() if not server.running
    )


@contextmanager
def _telling(ended: Callable[[], str]) -> Iterator[None]:
    """Says of what fails in the block that a server has ended, if one has."""
    try:
        yield
    except (PartMissing, CommandFailed, OSError, DBAPIError) as error:
        if how := ended():
            raise ServerEnded(
                f"{how} while the stack started. What is kept is not lost: start it again."
            ) from error
        raise


def _servers(stack: Stack) -> dict[str, Part]:
    mail = None if stack.outside is None else stack.outside.mail
    servers: dict[str, Part | None] = {
        "PostgreSQL": stack.postgres,
        "Temporal": stack.temporal,
        "Redis": stack.redis,
        "the mail sink": mail,
    }
    return {name: server for name, server in servers.items() if server is not None}


def _show(stack: Stack, programs: Mapping[str, Program], progress: Progress) -> None:
    addresses = stack.environment()
    mail = stack.directory / "mail"
    progress.say()
    for what, where in (
        ("Web UI", addresses.get("TEMPORAL_UI_URL", "none")),
        ("Temporal", addresses["TEMPORAL_ADDRESS"]),
        ("Redis", _redis(stack)),
        ("HTTP door", addresses["WEB_URL"]),
        ("mail", f"{addresses['SMTP_URL']}, kept in {_shown(mail)}"),
        ("worker's health", programs["the worker"].ready.get("health", "not started")),
        ("relay's health", programs["the relay"].ready.get("health", "not started")),
        ("door's health", programs["the HTTP door"].ready.get("health", "not started")),
        ("metrics", "/metrics of each of these"),
        ("logs", f"{_shown(stack.directory)}/{{worker,relay,web}}.log"),
    ):
        progress.say(f"  {what:16} {where}")
    progress.say()
    progress.say("In another shell:")
    if stack.directory != DIRECTORY:  # starter.py finds that one by itself
        progress.say(f"  export {DIRECTORY_VARIABLE}={shlex.quote(str(stack.directory))}")
    progress.say(
        """  ./starter.py run billing.cycle --tenant ua --input '{"period": "2013-04"}' --wait"""
    )
    progress.say(
        f'Other programs need "source {_quoted(stack.directory / ENV_FILE)}", and "./starter.py '
        f'migrate" needs "source {_quoted(stack.directory / OWNER_FILE)}", which has the database '
        "owner's address."
    )
    progress.say(
        f"Another worker, relay or HTTP door has what its kind needs from worker{ENV_SUFFIX}, "
        f"relay{ENV_SUFFIX} or web{ENV_SUFFIX} there."
    )
    progress.say()


def _redis(stack: Stack) -> str:
    if stack.redis is not None:
        return f"127.0.0.1:{stack.redis.port}"
    return "where REDIS_URL says" if REDIS_VARIABLE in stack.environment() else "none"


def _quoted(path: Path) -> str:
    return shlex.quote(str(_shown(path)))


def _shown(path: Path) -> Path:
    return path.relative_to(HERE) if path.is_relative_to(HERE) else path
