"""The application, as manage.py tenancy works on it."""

from __future__ import annotations

from shop import jobs  # noqa: F401  (registers the jobs)
from temporal_tenancy import Database, ScheduledJob, TenancyPlugin
from temporal_tenancy.cli import Application
from temporal_tenancy.control_plane import ControlPlaneDirectory


def plugin(database: Database) -> TenancyPlugin:
    """Returns the plugin of this application's clients and workers."""
    return TenancyPlugin(directory=ControlPlaneDirectory(database), database=database)


application = Application.from_environment(
    plugin,
    tenant="TENANT_DATABASE_URL",
    platform="PLATFORM_DATABASE_URL",
    relay="RELAY_DATABASE_URL",
    owner="OWNER_DATABASE_URL",
    schedules=[ScheduledJob("payments.total", "0 3 * * *")],
    queues=["default"],
)
