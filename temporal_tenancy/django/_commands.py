"""Commands of `manage.py` for one tenant."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from temporal_tenancy.core.errors import TenancyError
from temporal_tenancy.core.scope import TenantScope, enter


class TenantCommand(BaseCommand):
    """A command that takes `--tenant`, and whose `handle()` runs in that tenant's scope."""

    def create_parser(self, prog_name: str, subcommand: str, **options: Any) -> Any:
        """Adds `--tenant` to the command's arguments."""
        parser = super().create_parser(prog_name, subcommand, **options)
        parser.add_argument("--tenant", required=True, help="the tenant to run it for")
        return parser

    def execute(self, *args: Any, **options: Any) -> Any:
        """Runs the command in the tenant's scope.

        Raises:
            CommandError: the command broke a rule of tenancy; `manage.py` prints the sentence.
        """
        try:
            with enter(TenantScope(options["tenant"])):
                return super().execute(*args, **options)
        except TenancyError as error:
            raise CommandError(error.sentence) from error
