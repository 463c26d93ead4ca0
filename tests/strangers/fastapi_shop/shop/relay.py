from __future__ import annotations

import asyncio
import os

from temporalio.client import Client
from temporalio.envconfig import ClientConfig
from temporal_tenancy import Database, TenancyPlugin
from temporal_tenancy.control_plane import ControlPlaneDirectory
from temporal_tenancy.outbox import Relay

from shop import jobs  # noqa: F401


async def relay() -> None:
    url = os.environ["RELAY_DATABASE_URL"]
    directory = ControlPlaneDirectory(Database(platform_url=url))
    config = ClientConfig.load_client_connect_config()
    client = await Client.connect(**config, plugins=[TenancyPlugin(directory=directory)])
    await Relay(client, url).run()


if __name__ == "__main__":
    asyncio.run(relay())
