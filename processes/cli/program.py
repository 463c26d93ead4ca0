"""The reference SaaS as the program of the library's commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from saas.hints import HINTS
from temporal_tenancy.cli import Program

if TYPE_CHECKING:
    from temporal_tenancy import ScheduledJob
    from temporal_tenancy.cli import Application


def load() -> Application:
    """Loads the application from the environment, and configures logging."""
    # Imported here: help and mistyped options do without. Jobs and schedules load when a command
    # asks for one.
    from processes import connect
    from processes.cli import command_logs
    from processes.cli.running_stack import how_to_start, use_running_stack
    from saas.database.environment import TENANT_DATA
    from saas.queues import Queue
    from saas.settings import load_settings, refuse_misspelled_settings
    from temporal_tenancy.cli import Application, Login, say

    how = how_to_start(connect.HOW_TO_START)
    if (stack := use_running_stack()) is not None:
        say(stack)
    refuse_misspelled_settings()
    settings = load_settings()
    command_logs.configure(settings.log_format)
    return Application(
        connect=connect.connect_client,
        database=lambda: connect.database(
            settings, application_name=PROGRAM.application_name, how_to_start=how
        ),
        tenant=Login("TENANT_DATABASE_URL", connect.plain(settings.tenant_database_url)),
        platform=Login("PLATFORM_DATABASE_URL", connect.plain(settings.platform_database_url)),
        relay=Login("RELAY_DATABASE_URL", connect.plain(settings.relay_database_url)),
        owner=Login("DATABASE_URL", connect.plain(settings.database_url), how=connect.HOW_TO_OWN),
        redis=Login("REDIS_URL", connect.plain(settings.redis_url)),
        reaching=connect.reaching,
        schedules=_schedules,
        queues=list(Queue),
        environments=[TENANT_DATA],
        ui_url=settings.temporal_ui_url,
        worker="worker.py --queue {queue}",
        how_to_start=how,
        start_relay="worker.py --relay",
        connections=connect.connections(settings),
        failures=_failures,
    )


def _failures() -> Mapping[type[Exception], int]:
    from saas.refusals import Refused
    from saas.services.object_storage import ObjectNotFound, StorageFailed
    from saas.services.secrets import SecretRefused
    from temporal_tenancy.cli import ExitCode

    return {
        Refused: ExitCode.REFUSED,
        ObjectNotFound: ExitCode.FAILED,
        StorageFailed: ExitCode.NOT_REACHABLE,
        SecretRefused: ExitCode.NOT_REACHABLE,
    }


def _schedules() -> Sequence[ScheduledJob]:
    from workflows.schedules import SCHEDULES

    return SCHEDULES


PROGRAM: Final = Program(
    load=load, hints=HINTS, schedules="workflows/schedules.py", owner="DATABASE_URL"
)
