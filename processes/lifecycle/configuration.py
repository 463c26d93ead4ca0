"""What a process was started with, to find those that an operator has not restarted since."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from pydantic import SecretStr

from processes.lifecycle.build import version_of
from saas.database.environment import TENANT_DATA
from saas.settings import Settings
from temporal_tenancy.cli import temporal_config
from temporal_tenancy.control_plane import RunningProcess, configuration_digest
from temporal_tenancy.postgres import newest_revisions

# What each process has of its own, and its version, which is not configuration.
OWN: Final = frozenset(
    {"worker_health_host", "worker_health_port", "web_health_port", "worker_build_id"}
)


def configuration(settings: Settings) -> str:
    """Returns a digest of the settings and of Temporal's address and namespace."""
    values = {
        name: value.get_secret_value() if isinstance(value, SecretStr) else value
        for name, value in settings
        if name not in OWN
    }
    temporal = temporal_config()
    address = [temporal.get("target_host"), temporal.get("namespace")]
    return configuration_digest([values, address])


def this_process(kind: str, identity: str, serves: str, settings: Settings) -> RunningProcess:
    """Returns what this process says of itself; reads the files of the migrations."""
    return RunningProcess(
        kind=kind,
        identity=identity,
        serves=serves,
        version=version_of(settings),
        configuration=configuration(settings),
        revisions=newest_revisions([TENANT_DATA]),
        started_at=datetime.now(UTC),
    )
