"""`make dev`: runs the whole reference SaaS until Ctrl-C."""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from rich.console import Console

from dev import local_saas
from dev.devstack.errors import PartMissing
from dev.devstack.signals import orderly_stop
from dev.devstack.stack import Stack
from dev.local_saas import HERE, CommandFailed
from temporal_tenancy.cli import exit_process

DIRECTORY: Final = HERE / ".devstack"
WATCH_SECONDS: Final = 1.0  # between checks that every process still runs

console = Console(highlight=False)


def main() -> int:
    """Starts everything, prints the addresses, and waits; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, default=DIRECTORY, help="where to keep the state")
    directory = parser.parse_args().directory
    with orderly_stop():
        try:
            with Stack(directory, outside=True) as stack:
                return _serve(stack)
        except PartMissing as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            return 3
        except CommandFailed as error:
            print(error, file=sys.stderr)
            return 1


def _serve(stack: Stack) -> int:
    console.print("Migrating, and loading 16 airlines with 336,776 flights…")
    local_saas.starter(stack, "migrate", "--harden", "--yes", owner=True)
    local_saas.load_sample_data(stack)
    with ExitStack() as parts:
        worker = parts.enter_context(local_saas.worker(stack))
        relay = parts.enter_context(local_saas.relay(stack))
        web = parts.enter_context(local_saas.web(stack))
        local_saas.starter(stack, "schedules", "apply")
        env_file = stack.directory / "env"
        stack.write_env_file(env_file)
        addresses = stack.environment()
        console.print()
        for what, where in (
            ("Web UI", addresses.get("TEMPORAL_UI_URL", "none")),
            ("Temporal", addresses["TEMPORAL_ADDRESS"]),
            ("HTTP door", addresses["WEB_URL"]),
            ("mail", f"{addresses['SMTP_URL']}, kept in {_shown(stack.directory / 'mail')}"),
            ("worker's health", worker.ready["health"]),
            ("relay's health", relay.ready["health"]),
            ("logs", f"{_shown(stack.directory)}/{{worker,relay,web}}.log"),
        ):
            console.print(f"  {what:16} {where}", soft_wrap=True)
        console.print()
        console.print("In another shell:")
        console.print(f"  source {_shown(env_file)}", soft_wrap=True)
        console.print("  .venv/bin/python starter.py run billing.cycle --tenant ua \\")
        console.print("""      --input '{"period": "2013-04"}' --wait""")
        console.print()
        console.print("Ctrl-C stops everything.")
        running = {"worker": worker, "relay": relay, "web": web}
        try:
            while all(part.process.running for part in running.values()):
                time.sleep(WATCH_SECONDS)
        finally:
            console.print("\nStopping…")
        for name, part in running.items():
            if not part.process.running:
                message = f"the {name} has ended. Its log ends: {part.process.log_tail()}"
                print(message, file=sys.stderr)
        return 1


def _shown(path: Path) -> Path:
    return path.relative_to(HERE) if path.is_relative_to(HERE) else path


if __name__ == "__main__":
    exit_process(main())
