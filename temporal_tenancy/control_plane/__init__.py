"""The library's central tables: tenants, plans, ticks, the ledger, admission and API keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from temporal_tenancy.core.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from temporal_tenancy.control_plane._api_keys import ApiKeys
    from temporal_tenancy.control_plane.directory import ControlPlaneDirectory
    from temporal_tenancy.control_plane.plans import PlanRefused, Plans, PlanUnknown
    from temporal_tenancy.control_plane.running_processes import (
        RunningProcess,
        announced,
        configuration_digest,
    )
    from temporal_tenancy.control_plane.server_checks import last_fairness, renew_fairness
    from temporal_tenancy.control_plane.tables import TenantRow
    from temporal_tenancy.control_plane.tenants import (
        TenantExists,
        TenantExistsInOtherCase,
        Tenants,
    )

__all__ = [
    "ApiKeys",
    "ControlPlaneDirectory",
    "PlanRefused",
    "PlanUnknown",
    "Plans",
    "RunningProcess",
    "TenantExists",
    "TenantExistsInOtherCase",
    "TenantRow",
    "Tenants",
    "announced",
    "configuration_digest",
    "last_fairness",
    "renew_fairness",
]

_WHERE: Final = {
    "ApiKeys": "_api_keys",
    "ControlPlaneDirectory": "directory",
    "PlanRefused": "plans",
    "PlanUnknown": "plans",
    "Plans": "plans",
    "RunningProcess": "running_processes",
    "TenantExists": "tenants",
    "TenantExistsInOtherCase": "tenants",
    "TenantRow": "tables",
    "Tenants": "tenants",
    "announced": "running_processes",
    "configuration_digest": "running_processes",
    "last_fairness": "server_checks",
    "renew_fairness": "server_checks",
}

__getattr__, __dir__ = lazy_exports(__name__, _WHERE)
