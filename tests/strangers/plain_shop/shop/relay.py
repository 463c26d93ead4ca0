"""A relay: python -m shop.relay."""

import asyncio

from temporalio.client import Client
from temporalio.envconfig import ClientConfig

from shop import jobs, settings  # noqa: F401  # a relay refuses jobs it does not know
from shop.directory import Customers
from temporal_tenancy import TenancyPlugin
from temporal_tenancy.outbox import Relay


async def relay():
    config = ClientConfig.load_client_connect_config()
    plugin = TenancyPlugin(directory=Customers(settings.RELAY_URL))
    client = await Client.connect(**config, plugins=[plugin])
    await Relay(client, settings.RELAY_URL, installation=settings.INSTALLATION).run()


if __name__ == "__main__":
    asyncio.run(relay())
