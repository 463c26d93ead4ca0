"""A worker: python -m shop.worker."""

import asyncio

from temporalio.client import Client
from temporalio.envconfig import ClientConfig
from temporalio.worker import Worker

from shop import jobs, settings
from shop.tenancy import plugin
from temporal_tenancy import Database


async def work():
    database = Database(
        tenant_url=settings.APP_URL,
        platform_url=settings.PLATFORM_URL,
        installation=settings.INSTALLATION,
    )
    config = ClientConfig.load_client_connect_config()
    client = await Client.connect(**config, plugins=[plugin(database)])
    await Worker(
        client,
        task_queue="shop",
        workflows=[jobs.ConfirmOrder, jobs.TotalOrders],
        activities=[jobs.confirm_order, jobs.count_orders],
    ).run()


if __name__ == "__main__":
    asyncio.run(work())
