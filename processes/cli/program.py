"""The reference SaaS as the program of the library's commands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from saas.hints import HINTS
from temporal_tenancy.cli import Program

if TYPE_CHECKING:
    from temporal_tenancy.cli import Application


def load() -> Application:
    """Loads the application from the environment; registers its jobs and configures logging."""
    # Imported here: help and mistyped options do without.
    from activities.refusals import Refused
    from processes import connect, logs
    from saas.database.tables import TENANT_DATA
    from saas.queues import Queue
    from saas.services.object_storage import StorageFailed
    from saas.settings import load_settings
    from temporal_tenancy.cli import Application, ExitCode, Login
    from workflows.schedules import SCHEDULES

    settings = load_settings()
    # A command's output is its answer; LOG_LEVEL applies to long-running processes.
    logs.configure("warning", settings.log_format)
    return Application(
        connect=connect.connect_client,
        database=lambda: connect.database(settings, application_name=PROGRAM.application_name),
        tenant=Login("TENANT_DATABASE_URL", connect.plain(settings.tenant_database_url)),
        platform=Login("PLATFORM_DATABASE_URL", connect.plain(settings.platform_database_url)),
        relay=Login("RELAY_DATABASE_URL", connect.plain(settings.relay_database_url)),
        owner=Login("DATABASE_URL", connect.plain(settings.database_url), how=connect.HOW_TO_OWN),
        reaching=connect.reaching,
        schedules=SCHEDULES,
        queues=list(Queue),
        environments=[TENANT_DATA],
        ui_url=settings.temporal_ui_url,
        worker="worker.py --queue {queue}",
        how_to_start=connect.HOW_TO_START,
        failures={Refused: ExitCode.REFUSED, StorageFailed: ExitCode.NOT_REACHABLE},
    )


PROGRAM: Final = Program(
    load=load, hints=HINTS, schedules="workflows/schedules.py", owner="DATABASE_URL"
)
