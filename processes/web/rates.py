"""Rate limits per tenant, in this process."""

from __future__ import annotations

import math
import time
from typing import Final

from limits import RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter

from processes.web.refusals import RateExceeded
from temporal_tenancy import Tenant, scoped_key

DEFAULT_RATE: Final = 50.0  # requests per second, if the plan has no rate


class Rates:
    """Rate limiters, one per tenant and kind.

    Each process counts on its own: several behind a load balancer allow that many times the rate.
    """

    def __init__(self) -> None:
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    async def admit(self, tenant: Tenant, kind: str = "http") -> None:
        """Counts a request; raises `RateExceeded` if it is over the limit.

        `kind` names the rate in the plan, in requests per second.
        """
        rate = tenant.plan.rate_limits.get(kind, DEFAULT_RATE)
        # A rate below one per second allows one request in several seconds.
        calls, seconds = (math.floor(rate), 1) if rate >= 1 else (1, math.ceil(1 / max(rate, 1e-6)))
        item = RateLimitItemPerSecond(calls, seconds)
        key = scoped_key(tenant.id, "rate", kind)
        if not await self._limiter.hit(item, key):
            resets_at = (await self._limiter.get_window_stats(item, key)).reset_time
            raise RateExceeded(max(1, math.ceil(resets_at - time.time())))
