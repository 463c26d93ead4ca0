"""What each tenant costs: seconds of workers and of the database, by tenant, job and hour."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from temporal_tenancy.core.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from temporal_tenancy.metering._feature import metered, metering
    from temporal_tenancy.metering._table import By, Usage, usage

__all__ = ["By", "Usage", "metered", "metering", "usage"]

_WHERE: Final = {
    "By": "_table",
    "Usage": "_table",
    "metered": "_feature",
    "metering": "_feature",
    "usage": "_table",
}

__getattr__, __dir__ = lazy_exports(__name__, _WHERE)
