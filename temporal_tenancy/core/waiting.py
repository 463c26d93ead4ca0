"""Why a tenant's work waits now besides a suspension, as the features of the worker say."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

from temporal_tenancy.core.directory import Tenant
from temporal_tenancy.core.errors import TenancyError
from temporal_tenancy.core.jobs import Job
from temporal_tenancy.core.scoped_value import ScopedValue

Waits = Callable[[Tenant, Job], TenancyError | None]
"""Returns why a tenant's activity of a job cannot begin yet, or None if it can."""

_current: Final[ScopedValue[Waits]] = ScopedValue("temporal_tenancy_waits", "what work waits for")


def use_waits(waits: Waits) -> AbstractContextManager[Waits]:
    """Returns a context manager in which `reason_to_wait()` asks `waits`."""
    return _current.provide(waits)


def reason_to_wait(tenant: Tenant, job: Job) -> TenancyError | None:
    """Returns why the tenant's activities of `job` cannot begin yet.

    None if they can, and outside of the platform's activities.
    """
    waits = _current.get()
    return None if waits is None else waits(tenant, job)
