"""Helpers for tests of applications that use the library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from temporal_tenancy.core.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from temporal_tenancy.testing.directory import STANDARD_PLAN, InMemoryDirectory, make_tenant
    from temporal_tenancy.testing.leaks.check import Leak, assert_no_leaks, check_leaks

__all__ = [
    "STANDARD_PLAN",
    "InMemoryDirectory",
    "Leak",
    "assert_no_leaks",
    "check_leaks",
    "make_tenant",
]

_WHERE: Final = {
    "STANDARD_PLAN": "directory",
    "InMemoryDirectory": "directory",
    "Leak": "leaks.check",
    "assert_no_leaks": "leaks.check",
    "check_leaks": "leaks.check",
    "make_tenant": "directory",
}

__getattr__, __dir__ = lazy_exports(__name__, _WHERE)
