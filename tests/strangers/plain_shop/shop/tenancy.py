"""The shop, as the command tenancy works on it."""

from shop import jobs, settings  # noqa: F401  # importing the jobs registers them
from temporal_tenancy import ScheduledJob, SqlTenantDirectory, TenancyPlugin
from temporal_tenancy.cli import Application

CUSTOMERS = "select id, name, case when closed then 'deleted' end as status from customers"


def plugin(database):
    return TenancyPlugin(
        directory=SqlTenantDirectory(database, CUSTOMERS),
        database=database,
        platform_queue="shop",
        passthrough=["shop.settings", "psycopg"],
    )


application = Application.from_environment(
    plugin,
    tenant="SHOP_APP_URL",
    platform="SHOP_PLATFORM_URL",
    relay="SHOP_RELAY_URL",
    owner="SHOP_OWNER_URL",
    schedules=[ScheduledJob("orders.total", "0 2 * * *")],
    queues=["shop"],
    installation=settings.INSTALLATION,
)
