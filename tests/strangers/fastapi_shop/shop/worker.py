from __future__ import annotations

import asyncio
import os

from temporalio.client import Client
from temporalio.envconfig import ClientConfig
from temporalio.worker import Worker
from temporal_tenancy import Database

from shop.activities import confirm, count_orders
from shop.jobs import ConfirmOrder, SummarizeOrders
from shop.tenancy import plugin


async def work() -> None:
    database = Database(
        tenant_url=os.environ["TENANT_DATABASE_URL"],
        platform_url=os.environ["PLATFORM_DATABASE_URL"],
    )
    config = ClientConfig.load_client_connect_config()
    client = await Client.connect(**config, plugins=[plugin(database)])
    await Worker(
        client,
        task_queue="shop",
        workflows=[ConfirmOrder, SummarizeOrders],
        activities=[confirm, count_orders],
    ).run()


if __name__ == "__main__":
    asyncio.run(work())
