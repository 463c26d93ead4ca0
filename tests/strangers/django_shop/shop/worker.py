"""A worker of the site's jobs, or with --relay the relay of its requests."""

from __future__ import annotations

import asyncio
import os
import sys
from concurrent.futures import ThreadPoolExecutor

from temporalio.client import Client
from temporalio.envconfig import ClientConfig
from temporalio.worker import Worker

from shop.tenancy import plugin  # first: it calls django.setup()
from shop.jobs import ConfirmOrder, TotalPayments, confirm_order, total_payments
from temporal_tenancy import Database
from temporal_tenancy.outbox import Relay


async def relay() -> None:
    """Turns requests into workflows until it is cancelled."""
    url = os.environ["RELAY_DATABASE_URL"]
    config = ClientConfig.load_client_connect_config()
    client = await Client.connect(**config, plugins=[plugin(Database(platform_url=url))])
    await Relay(client, url).run()


async def work() -> None:
    """Serves the queue "default" until it is cancelled."""
    database = Database(
        tenant_url=os.environ["TENANT_DATABASE_URL"],
        platform_url=os.environ["PLATFORM_DATABASE_URL"],
    )
    config = ClientConfig.load_client_connect_config()
    client = await Client.connect(**config, plugins=[plugin(database)])
    with ThreadPoolExecutor(10) as threads:
        await Worker(
            client,
            task_queue="default",
            workflows=[ConfirmOrder, TotalPayments],
            activities=[confirm_order, total_payments],
            activity_executor=threads,
        ).run()


if __name__ == "__main__":
    asyncio.run(relay() if "--relay" in sys.argv else work())
