"""Helpers for tests of applications that use the library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from temporal_tenancy.core.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from temporal_tenancy.testing._activities import TenantActivityEnvironment
    from temporal_tenancy.testing._directory import STANDARD_PLAN, InMemoryDirectory, make_tenant
    from temporal_tenancy.testing._headers import forged, forged_headers, refused
    from temporal_tenancy.testing._requests import acting_as
    from temporal_tenancy.testing._workers import RunningWorker, running_worker, tenancy_client
    from temporal_tenancy.testing.leaks.check import Leak, assert_no_leaks, check_leaks

__all__ = [
    "STANDARD_PLAN",
    "InMemoryDirectory",
    "Leak",
    "RunningWorker",
    "TenantActivityEnvironment",
    "acting_as",
    "assert_no_leaks",
    "check_leaks",
    "forged",
    "forged_headers",
    "make_tenant",
    "refused",
    "running_worker",
    "tenancy_client",
]

_WHERE: Final = {
    "STANDARD_PLAN": "_directory",
    "InMemoryDirectory": "_directory",
    "Leak": "leaks.check",
    "RunningWorker": "_workers",
    "TenantActivityEnvironment": "_activities",
    "acting_as": "_requests",
    "assert_no_leaks": "leaks.check",
    "check_leaks": "leaks.check",
    "forged": "_headers",
    "forged_headers": "_headers",
    "make_tenant": "_directory",
    "refused": "_headers",
    "running_worker": "_workers",
    "tenancy_client": "_workers",
}

__getattr__, __dir__ = lazy_exports(__name__, _WHERE)
