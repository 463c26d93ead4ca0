"""`make dev`: runs the whole reference SaaS until Ctrl-C, and starts again what dies."""

from __future__ import annotations

import argparse
import errno
import os
import shlex
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from sqlalchemy.exc import DBAPIError

from dev import local_saas
from dev.devstack.errors import PartMissing
from dev.devstack.progress import Progress
from dev.devstack.signals import orderly_stop
from dev.devstack.stack import DIRECTORY_VARIABLE, ENV_FILE, OWNER_FILE, Stack, without_own
from dev.local_saas import HERE, CommandFailed, Program
from dev.sample_data.airlines import FLIGHTS
from dev.supervisor import Part, Supervisor
from temporal_tenancy.cli import begin_process, exit_process
from temporal_tenancy.core import printable

DIRECTORY: Final = HERE / ".devstack"
FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # nothing can be written


def main() -> int:
    """Starts everything, prints the addresses, and waits; returns the exit code.

    The code is 128 + n after signal n, 1 if a part was given up or a command failed, and 3 if
    something needed is missing.
    """
    parser = argparse.ArgumentParser(prog="make dev", description=__doc__)
    parser.add_argument("--directory", type=Path, default=DIRECTORY, help="where to keep the state")
    directory = parser.parse_args().directory
    progress = Progress()
    with orderly_stop() as hurry:
        try:
            environ = without_own(os.environ, directory)
            with Stack(directory, environ=environ, outside=True, progress=progress) as stack:
                return _serve(stack, progress, hurry)
        except PartMissing as error:
            return _refuse(f"{_full(error, directory)}{type(error).__name__}: {error}", 3)
        except CommandFailed as error:
            return _refuse(f"{_full(error, directory)}{error}", 1)
        except DBAPIError as error:  # while the flights are loaded
            return _refuse(f"{_full(error, directory)}{type(error.orig).__name__}: {error.orig}", 1)
        except OSError as error:
            if error.errno not in FULL:
                raise
            return _refuse(f"{_full(error, directory)}{error}", 3)


def _full(error: Exception, directory: Path) -> str:
    """Returns the sentence for a full disk, in front of what a part says about it; else nothing."""
    if not any(os.strerror(number) in str(error) for number in FULL):
        return ""
    return (
        f"DiskFull: {directory} cannot be written. Make room, and start again: what is kept there "
        "is not lost.\n"
    )


def _refuse(sentence: str, code: int) -> int:
    print(printable(sentence, lines=True), file=sys.stderr)
    return code


def _serve(stack: Stack, progress: Progress, hurry: Callable[[], bool]) -> int:
    began = time.monotonic()
    with progress.phase("Migrating the database"):
        local_saas.starter(stack, "migrate", "--harden", "--yes", owner=True)
    with progress.phase(f"Loading what is missing of the airlines' {FLIGHTS:,} flights"):
        loaded = sum(local_saas.load_sample_data(stack).values())
    progress.say(f"  {loaded:,} were loaded." if loaded else "  None was missing.")
    with ExitStack() as parts:
        # The door first: the others give out links to it.
        programs: dict[str, Program] = {}
        for name, program in (
            ("the HTTP door", local_saas.make_web(stack, hurry=hurry)),
            ("the worker", local_saas.make_worker(stack, hurry=hurry)),
            ("the relay", local_saas.make_relay(stack, hurry=hurry)),
        ):
            with progress.phase(f"Starting {name}"):
                programs[name] = parts.enter_context(program)
        with progress.phase("Applying the schedules"):
            local_saas.starter(stack, "schedules", "apply")
        stack.write_env_files()
        _show(stack, programs, progress)
        progress.say(f"All of it runs, {time.monotonic() - began:.0f} s after the servers.")
        progress.say("Ctrl-C stops everything.")
        supervisor = Supervisor(
            _servers(stack),
            programs,
            progress=progress,
            addresses=stack.environment,
            moved=stack.write_env_files,
        )
        try:
            supervisor.run()
        except SystemExit:
            if not supervisor.given_up:
                raise
        finally:
            progress.say(
                "\nStopping. The worker finishes what runs, for at most 30 s; Ctrl-C again ends it "
                "at once."
            )
            for program in programs.values():
                program.ask_to_end()
        given_up = " and ".join(supervisor.given_up)
        return _refuse(f"PartGivenUp: {given_up} ended again and again; see above.", 1)


def _servers(stack: Stack) -> dict[str, Part]:
    mail = None if stack.outside is None else stack.outside.mail
    servers: dict[str, Part | None] = {
        "PostgreSQL": stack.postgres,
        "Temporal": stack.temporal,
        "the mail sink": mail,
    }
    return {name: server for name, server in servers.items() if server is not None}


def _show(stack: Stack, programs: dict[str, Program], progress: Progress) -> None:
    addresses = stack.environment()
    mail = stack.directory / "mail"
    progress.say()
    for what, where in (
        ("Web UI", addresses.get("TEMPORAL_UI_URL", "none")),
        ("Temporal", addresses["TEMPORAL_ADDRESS"]),
        ("HTTP door", addresses["WEB_URL"]),
        ("mail", f"{addresses['SMTP_URL']}, kept in {_shown(mail)}"),
        ("worker's health", programs["the worker"].ready["health"]),
        ("relay's health", programs["the relay"].ready["health"]),
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
        f'Other programs need "source {_shown(stack.directory / ENV_FILE)}", and "./starter.py '
        f'migrate" needs "source {_shown(stack.directory / OWNER_FILE)}", which has the database '
        "owner's address."
    )
    progress.say()


def _shown(path: Path) -> Path:
    return path.relative_to(HERE) if path.is_relative_to(HERE) else path


if __name__ == "__main__":
    begin_process()
    exit_process(main())
