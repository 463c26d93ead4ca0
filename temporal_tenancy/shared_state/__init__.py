"""What processes share in Redis or Valkey: a tenant's cache, locks with a fence, and rates.

Every key names its tenant. Nothing here is the only copy of anything: Redis may forget it all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from temporal_tenancy.core.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from temporal_tenancy.shared_state._cache import TenantCache, tenant_cache
    from temporal_tenancy.shared_state._errors import (
        LockLost,
        LockTaken,
        LockUnavailable,
        RateLimited,
        RateUnavailable,
        SharedStateUnavailable,
    )
    from temporal_tenancy.shared_state._feature import shared_state
    from temporal_tenancy.shared_state._keys import platform_key, tenant_key
    from temporal_tenancy.shared_state._locks import TenantLock, tenant_lock
    from temporal_tenancy.shared_state._rates import (
        Away,
        Rate,
        platform_rate_limit,
        tenant_rate_limit,
    )
    from temporal_tenancy.shared_state._store import (
        SharedState,
        current_shared_state,
        use_shared_state,
    )

__all__ = [
    "Away",
    "LockLost",
    "LockTaken",
    "LockUnavailable",
    "Rate",
    "RateLimited",
    "RateUnavailable",
    "SharedState",
    "SharedStateUnavailable",
    "TenantCache",
    "TenantLock",
    "current_shared_state",
    "platform_key",
    "platform_rate_limit",
    "shared_state",
    "tenant_cache",
    "tenant_key",
    "tenant_lock",
    "tenant_rate_limit",
    "use_shared_state",
]

_WHERE: Final = {
    "Away": "_rates",
    "LockLost": "_errors",
    "LockTaken": "_errors",
    "LockUnavailable": "_errors",
    "Rate": "_rates",
    "RateLimited": "_errors",
    "RateUnavailable": "_errors",
    "SharedState": "_store",
    "SharedStateUnavailable": "_errors",
    "TenantCache": "_cache",
    "TenantLock": "_locks",
    "current_shared_state": "_store",
    "platform_key": "_keys",
    "platform_rate_limit": "_rates",
    "shared_state": "_feature",
    "tenant_cache": "_cache",
    "tenant_key": "_keys",
    "tenant_lock": "_locks",
    "tenant_rate_limit": "_rates",
    "use_shared_state": "_store",
}

__getattr__, __dir__ = lazy_exports(__name__, _WHERE)
