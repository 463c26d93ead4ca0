"""The `tenancy-scope` header, which carries the scope of a task; the input is the truth."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from temporalio.api.common.v1 import Payload

from temporal_tenancy.core.errors import TenancyError, TenantMismatch
from temporal_tenancy.core.scope import PlatformScope, Scope, TenantScope

NAME: Final = "tenancy-scope"
MAX_BYTES: Final = 1_024  # of the header's value; a tenant id has at most 63
PLATFORM_FIELD: Final = "platform"


def write(headers: Mapping[str, Payload] | None, scope: Scope) -> dict[str, Payload]:
    """Returns a copy of `headers` with the scope in it.

    The value is JSON (`json/plain`): the tenant id as a string, or `{"platform": reason}`. It
    bypasses the data converter, so that workers with different converters can read each other's.
    """
    value: Any = (
        scope.tenant_id if isinstance(scope, TenantScope) else {PLATFORM_FIELD: scope.reason}
    )
    payload = Payload(metadata={"encoding": b"json/plain"}, data=json.dumps(value).encode())
    return {**(headers or {}), NAME: payload}


def read(headers: Mapping[str, Payload] | None) -> Scope | None:
    """Returns the scope in `headers`, or None if there is none.

    Raises:
        TenantMismatch: the header cannot be read, so it cannot agree with anything, or has more
            than 1,024 bytes (`MAX_BYTES`).
    """
    payload = (headers or {}).get(NAME)
    # The CLI sends an empty payload if it cannot encode the value of a header.
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
