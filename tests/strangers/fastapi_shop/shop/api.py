from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated
from uuid import UUID, uuid4

from fastapi import Depends, FastAPI, Header, HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy import select
from temporal_tenancy import (
    Database,
    TenancyError,
    TenantScope,
    enter,
    tenant_session,
    use_database,
)
from temporal_tenancy.outbox import enqueue

from shop import jobs  # noqa: F401
from shop.models import Order, OrderLine

database = Database(tenant_url=os.environ["TENANT_DATABASE_URL"])
TOKENS = {
    "acme": "0192f0c1-2b4d-7e8f-9abc-def012345678",
    "globex": "0192f0c1-2b4d-7e8f-9abc-def0123456ab",
}


@asynccontextmanager
async def lifespan(application: FastAPI) -> AsyncIterator[None]:
    yield
    await database.dispose()


async def tenant(authorization: Annotated[str, Header()] = "") -> AsyncIterator[str]:
    tenant_id = TOKENS.get(authorization.removeprefix("Bearer "))
    if tenant_id is None:
        raise HTTPException(401)
    with use_database(database), enter(TenantScope(tenant_id)):
        yield tenant_id


application = FastAPI(lifespan=lifespan, dependencies=[Depends(tenant)])


@application.exception_handler(TenancyError)
async def refuse(request: Request, error: TenancyError) -> JSONResponse:
    return JSONResponse({"error": error.sentence}, 409)


class NewOrder(BaseModel):
    email: str
    items: list[str]
    declined: bool = False


@application.post("/orders")
async def take_order(new: NewOrder) -> UUID:
    async with tenant_session() as session:
        order = Order(id=uuid4(), email=new.email, status="new")
        order.lines = [OrderLine(number=n, item=item) for n, item in enumerate(new.items, 1)]
        session.add(order)
        await session.flush()
        await enqueue("orders.confirm", {"order_id": str(order.id)}, key=str(order.id))
        if new.declined:  # the payment was declined: roll everything back
            raise HTTPException(402, "declined")
    return order.id


@application.get("/orders")
async def orders() -> list[tuple[UUID, str, str]]:
    async with tenant_session() as session:
        return [(o.id, o.email, o.status) for o in await session.scalars(select(Order))]
