"""The `tenancy-scope` header: how a scope travels with a task. Transport, not truth."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from temporalio.api.common.v1 import Payload

from temporal_tenancy.core.errors import TenancyError, TenantMismatch
from temporal_tenancy.core.scope import PlatformScope, Scope, TenantScope

NAME: Final = "tenancy-scope"
MAX_BYTES: Final = 1_024  # of a header's value; a tenant id has 63
PLATFORM_FIELD: Final = "platform"


def write(headers: Mapping[str, Payload] | None, scope: Scope) -> dict[str, Payload]:
    """Returns `headers` with the scope in them: the tenant id, or `{"platform": reason}`.

    Written by hand and never by the data converter, so that workers with different converters
    read each other.
    """
    value: Any = (
        scope.tenant_id if isinstance(scope, TenantScope) else {PLATFORM_FIELD: scope.reason}
    )
    payload = Payload(metadata={"encoding": b"json/plain"}, data=json.dumps(value).encode())
    return {**(headers or {}), NAME: payload}


def read(headers: Mapping[str, Payload] | None) -> Scope | None:
    """Returns the scope in `headers`, None when there is none.

    Raises `TenantMismatch` when there is one that cannot be read: it agrees with nothing.
    """
    payload = (headers or {}).get(NAME)
    # The CLI sends an empty payload for a header whose value it could not encode.
    if payload is None or not payload.data:
        return None
    try:
        if len(payload.data) > MAX_BYTES:
            raise ValueError
        value = json.loads(payload.data)
        if isinstance(value, str):
            return TenantScope(value)
        if isinstance(value, dict) and isinstance(value.get(PLATFORM_FIELD), str):
            return PlatformScope(value[PLATFORM_FIELD])
    except (ValueError, RecursionError, TenancyError):
        pass
    raise TenantMismatch(f'the header "{NAME}" names neither a tenant nor the platform.')
