from __future__ import annotations

import os
from typing import Annotated
from uuid import UUID, uuid4

from fastapi import FastAPI, Header, HTTPException
from pydantic import BaseModel
from sqlalchemy import select
from temporal_tenancy import Database
from temporal_tenancy.fastapi import TenantSession, install_tenancy
from temporal_tenancy.outbox import enqueue

from shop import jobs  # noqa: F401
from shop.models import Order, OrderLine

TOKENS = {
    "acme": "0192f0c1-2b4d-7e8f-9abc-def012345678",
    "globex": "0192f0c1-2b4d-7e8f-9abc-def0123456ab",
}


def tenant(authorization: Annotated[str, Header()] = "") -> str:
    tenant_id = TOKENS.get(authorization.removeprefix("Bearer "))
    if tenant_id is None:
        raise HTTPException(401)
    return tenant_id


application = FastAPI()
database = Database(tenant_url=os.environ["TENANT_DATABASE_URL"])
install_tenancy(application, database=database, tenant_of=tenant)


class NewOrder(BaseModel):
    email: str
    items: list[str]
    declined: bool = False


@application.post("/orders")
async def take_order(new: NewOrder, session: TenantSession) -> UUID:
    order = Order(id=uuid4(), email=new.email, status="new")
    order.lines = [OrderLine(number=n, item=item) for n, item in enumerate(new.items, 1)]
    session.add(order)
    await session.flush()
    await enqueue("orders.confirm", {"order_id": str(order.id)}, key=str(order.id))
    if new.declined:  # the payment was declined: roll everything back
        raise HTTPException(402, "declined")
    return order.id


@application.get("/orders")
async def orders(session: TenantSession) -> list[tuple[UUID, str, str]]:
    return [(o.id, o.email, o.status) for o in await session.scalars(select(Order))]
