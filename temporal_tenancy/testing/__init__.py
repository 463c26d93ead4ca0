"""Helpers for tests of applications that use the library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from temporal_tenancy.core.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from temporal_tenancy.testing.activities import TenantActivityEnvironment
    from temporal_tenancy.testing.directory import STANDARD_PLAN, InMemoryDirectory, make_tenant
    from temporal_tenancy.testing.headers import forged, forged_headers, refused
    from temporal_tenancy.testing.leaks.check import Leak, assert_no_leaks, check_leaks
    from temporal_tenancy.testing.requests import acting_as
    from temporal_tenancy.testing.workers import RunningWorker, running_worker, tenancy_client

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
    "STANDARD_PLAN": "directory",
    "InMemoryDirectory": "directory",
    "Leak": "leaks.check",
    "RunningWorker": "workers",
    "TenantActivityEnvironment": "activities",
    "acting_as": "requests",
    "assert_no_leaks": "leaks.check",
    "check_leaks": "leaks.check",
    "forged": "headers",
    "forged_headers": "headers",
    "make_tenant": "directory",
    "refused": "headers",
    "running_worker": "workers",
    "tenancy_client": "workers",
}

__getattr__, __dir__ = lazy_exports(__name__, _WHERE)
