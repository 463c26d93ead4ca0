from __future__ import annotations

import httpx
from conftest import ACME, GLOBEX
from shop import api
from shop.activities import count_orders
from shop.jobs import SummarizeOrders
from temporal_tenancy.testing import acting_as


async def test_count(tenant_activities) -> None:
    activities = tenant_activities(GLOBEX, job=SummarizeOrders)
    assert set(await activities.run(count_orders, "2026-11-26")) == {"orders", "lines"}


async def test_requests(tenancy_database) -> None:
    transport = httpx.ASGITransport(app=api.application)
    async with httpx.AsyncClient(transport=transport, base_url="http://t") as http:
        api.application.dependency_overrides[api.tenant] = acting_as(ACME, tenancy_database)
        new = (await http.post("/orders", json={"email": "t@x.org", "items": ["a"]})).json()
        assert new in [o[0] for o in (await http.get("/orders")).json()]
        api.application.dependency_overrides[api.tenant] = acting_as(GLOBEX, tenancy_database)
        assert new not in [o[0] for o in (await http.get("/orders")).json()]
