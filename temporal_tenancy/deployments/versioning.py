"""The version of a worker."""

from __future__ import annotations

import re
from typing import Final

from temporalio.common import WorkerDeploymentVersion
from temporalio.worker import WorkerDeploymentConfig

from temporal_tenancy.core.display import printable
from temporal_tenancy.core.errors import ConfigurationError

LONGEST: Final = 100  # characters of a name or a build id; both are part of longer keys
_ALLOWED: Final = re.compile(r"[A-Za-z0-9._:+/=@~-]+")


def versioned(deployment: str, build_id: str) -> WorkerDeploymentConfig:
    """Returns the `deployment_config` of a versioned worker.

    Tenants' runs and fan-outs end on the version that they begin on. Other platform runs move to
    the current version at their next task, unless `platform_job(pinned=True)` declares them.

    Args:
        deployment: the name that all versions of an application's workers share.
        build_id: of this code, such as the image's tag: other code has another.

    Raises:
        ConfigurationError: the server would refuse the name or the build id.
    """
    for what, value in (("deployment", deployment), ("build id", build_id)):
        if len(value) > LONGEST or not _ALLOWED.fullmatch(value):
            raise ConfigurationError(
                f"the worker's {what} {printable(value)[:LONGEST]!r} must be 1 to {LONGEST} of the "
                "characters A-Z, a-z, 0-9 and ._:+/=@~-."
            )
    if "." in deployment or ":" in deployment:
        raise ConfigurationError(
            f'the worker\'s deployment {deployment!r} contains "." or ":", which separate it from '
            "the build id. Leave them out."
        )
    version = WorkerDeploymentVersion(deployment, build_id)
    return WorkerDeploymentConfig(version, use_worker_versioning=True)


def version_of_worker(
    deployment: str | None, build_id: str | None
) -> WorkerDeploymentConfig | None:
    """Returns `versioned(...)`, or None for an unversioned worker, which has neither.

    Raises:
        ConfigurationError: only one is given, or one is invalid.
    """
    if deployment is None and build_id is None:
        return None
    if deployment is None or build_id is None:
        missing = "deployment's name" if deployment is None else "build id"
        raise ConfigurationError(
            f"a versioned worker has a deployment's name and a build id, and the {missing} is "
            "missing. Give both, or neither for an unversioned worker."
        )
    return versioned(deployment, build_id)
