"""Metrics for Prometheus: one line in the plugin, and `/metrics` on each process's health port."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from temporal_tenancy.core.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from temporal_tenancy.metrics._collecting import CollectOptions, collecting
    from temporal_tenancy.metrics._feature import metrics
    from temporal_tenancy.metrics.catalogue import CATALOGUE, Instrument

__all__ = ["CATALOGUE", "CollectOptions", "Instrument", "collecting", "metrics"]

_WHERE: Final = {
    "CATALOGUE": "catalogue",
    "CollectOptions": "_collecting",
    "Instrument": "catalogue",
    "collecting": "_collecting",
    "metrics": "_feature",
}

__getattr__, __dir__ = lazy_exports(__name__, _WHERE)
