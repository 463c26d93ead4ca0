"""`manage.py tenancy`: the operators' commands, for the site."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, Final

from django import conf  # not its settings, as in middleware
from django.core.management.base import BaseCommand, CommandParser

from temporal_tenancy.cli import exit_process
from temporal_tenancy.cli.tenancy import tenancy

SETTING: Final = "TENANCY_APPLICATION"


class Command(BaseCommand):
    """Runs a command of `tenancy`, such as `manage.py tenancy worker`.

    The setting `TENANCY_APPLICATION` names the application, as `--app` does. Without it the command
    finds the application where `tenancy` does.
    """

    help = "Runs the operators' commands: worker, relay, migrate, doctor and the others."
    requires_system_checks: Sequence[str] = []

    def run_from_argv(self, argv: Sequence[str]) -> None:
        """Runs the command of a command line, and ends the process with its exit code."""
        exit_process(_run(argv[2:]))

    def add_arguments(self, parser: CommandParser) -> None:
        """Takes everything after the command's name."""
        parser.add_argument("arguments", nargs=argparse.REMAINDER)

    def handle(self, *args: Any, **options: Any) -> None:
        """Runs the command for `call_command()`; raises `SystemExit` if its code is not 0."""
        code = _run(options["arguments"])
        if code:
            raise SystemExit(code)


def _run(arguments: Sequence[str]) -> int:
    application = getattr(conf.settings, SETTING, None)
    named = [] if application is None else ["--app", str(application)]
    return tenancy([*named, *arguments], name="manage.py tenancy")
