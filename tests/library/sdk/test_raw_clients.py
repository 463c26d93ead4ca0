"""Activities of tenants that ask Redis themselves, which the source shows before any runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis.asyncio  # noqa: TID251

from temporal_tenancy.core.activities import platform_activity, tenant_activity
from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.sdk.code_checks import check_activity

CLIENT = redis.asyncio.Redis()


@tenant_activity
async def imports_it() -> None:
    from redis import Redis  # noqa: TID251

    Redis().get("prices")


@tenant_activity
async def makes_a_client() -> None:
    await redis.asyncio.Redis().get("prices")


@tenant_activity
async def uses_the_modules_client() -> None:
    await CLIENT.get("prices")


async def _helper() -> None:
    await CLIENT.get("prices")


@tenant_activity
async def asks_a_helper() -> None:
    await _helper()


@tenant_activity
async def asks_nothing() -> None:
    redis_prices = {"a": 1}
    redis_prices.get("a")


@platform_activity("counts what all tenants have")
async def works_for_the_platform() -> None:
    await CLIENT.dbsize()
    await _helper()


@pytest.mark.parametrize(
    "activity", [imports_it, makes_a_client, uses_the_modules_client, asks_a_helper]
)
def test_a_tenants_activity_may_not_ask_redis_itself(activity: Callable[..., Any]) -> None:
    with pytest.raises(ConfigurationError, match="uses redis itself, whose keys name no tenant"):
        check_activity(activity)


@pytest.mark.parametrize("activity", [asks_nothing, works_for_the_platform])
def test_other_code_is_left_alone(activity: Callable[..., Any]) -> None:
    check_activity(activity)
