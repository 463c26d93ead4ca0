from __future__ import annotations

from temporal_tenancy import Database, ScheduledJob, TenancyPlugin
from temporal_tenancy.cli import Application
from temporal_tenancy.control_plane import ControlPlaneDirectory

from shop import jobs  # noqa: F401


def plugin(database: Database) -> TenancyPlugin:
    return TenancyPlugin(
        directory=ControlPlaneDirectory(database),
        database=database,
        platform_queue="shop",
        passthrough=["shop.activities", "shop.models"],
    )


application = Application.from_environment(
    plugin,
    tenant="TENANT_DATABASE_URL",
    platform="PLATFORM_DATABASE_URL",
    relay="RELAY_DATABASE_URL",
    owner="DATABASE_URL",
    schedules=[ScheduledJob("orders.summary", "0 3 * * *")],
    queues=["shop"],
)
