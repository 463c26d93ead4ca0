"""Worker versions: releasing them to some tenants first, and halting a bad one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from temporal_tenancy.core.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from temporal_tenancy.deployments._feature import deployments
    from temporal_tenancy.deployments._released_versions import ReleasedVersions
    from temporal_tenancy.deployments.releases import (
        Bounds,
        Cohort,
        Release,
        ReleaseInvalid,
        Releases,
        ReleaseUnknown,
        TenantInTwoCohorts,
    )
    from temporal_tenancy.deployments.versioning import versioned
    from temporal_tenancy.deployments.versions import (
        DeploymentUnknown,
        VersionIncomplete,
        VersionRefused,
        VersionUnknown,
    )

__all__ = [
    "Bounds",
    "Cohort",
    "DeploymentUnknown",
    "Release",
    "ReleaseInvalid",
    "ReleaseUnknown",
    "ReleasedVersions",
    "Releases",
    "TenantInTwoCohorts",
    "VersionIncomplete",
    "VersionRefused",
    "VersionUnknown",
    "deployments",
    "versioned",
]

_WHERE: Final = {
    "Bounds": "releases",
    "Cohort": "releases",
    "DeploymentUnknown": "versions",
    "Release": "releases",
    "ReleaseInvalid": "releases",
    "ReleaseUnknown": "releases",
    "ReleasedVersions": "_released_versions",
    "Releases": "releases",
    "TenantInTwoCohorts": "releases",
    "VersionIncomplete": "versions",
    "VersionRefused": "versions",
    "VersionUnknown": "versions",
    "deployments": "_feature",
    "versioned": "versioning",
}

__getattr__, __dir__ = lazy_exports(__name__, _WHERE)
