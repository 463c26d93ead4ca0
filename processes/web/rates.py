"""The rates of tenants' calls, which all processes of the door count together."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Final

from processes.web.refusals import RateExceeded
from temporal_tenancy import Tenant, TenantScope, enter
from temporal_tenancy.shared_state import (
    Rate,
    RateLimited,
    SharedState,
    tenant_rate_limit,
    use_shared_state,
)

DEFAULT_RATE: Final = 50.0  # requests per second, if the plan has no rate
LOWEST_RATE: Final = 1e-6  # what a plan's 0 means


class Rates:
    """Rate limiters, one per tenant and kind.

    Without Redis, or while it is away, each process counts on its own: several behind a load
    balancer then allow that many times the rate.
    """

    def __init__(self, state: SharedState | None = None) -> None:
        """`state` is where the processes count."""
        self._state = state or SharedState(None)

    async def admit(self, tenant: Tenant, kind: str = "http") -> None:
        """Counts a request; raises `RateExceeded` if it is over the limit.

        `kind` names the rate in the plan, in requests per second.
        """
        allowed = tenant.plan.rate_limits.get(kind, DEFAULT_RATE)
        rate = Rate.per_second(max(allowed, LOWEST_RATE))
        try:
            with use_shared_state(self._state), enter(TenantScope(tenant.id)):
                await tenant_rate_limit("door", rate, kind)
        except RateLimited as limited:
            raise RateExceeded(seconds_until(limited)) from None


def seconds_until(limited: RateLimited) -> int:
    """Returns after how many seconds to try again, as an answer says it."""
    return max(1, math.ceil(limited.retry_after / timedelta(seconds=1)))
