"""The application, as the command tenancy works on it."""

from __future__ import annotations

import os

import django

from temporal_tenancy import Database, ScheduledJob, TenancyPlugin
from temporal_tenancy.cli import Application
from temporal_tenancy.control_plane import ControlPlaneDirectory

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
django.setup()

from shop import jobs  # noqa: E402, F401  (needs django.setup(); registers the jobs)


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
    worker="python -m shop.worker",
)
