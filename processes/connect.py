"""The way to the servers that the environment names: a `Database` and a Temporal client."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

from pydantic import SecretStr
from temporalio.client import Client
from temporalio.envconfig import ClientConfig, ClientConnectConfig

from saas.settings import Settings
from temporal_tenancy.cli import Advice, NotReachable
from temporal_tenancy.cli import reaching as reaching_servers
from temporal_tenancy.control_plane.directory import ControlPlaneDirectory
from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.dead_letters.alerts import AlertSink
from temporal_tenancy.everything import TenancyPlugin
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.postgres.pool_share import PoolShare
from workflows import WORKFLOWS  # noqa: F401  # the jobs are known once they are imported

DEFAULT_ADDRESS: Final = "localhost:7233"  # the SDK's own
DEFAULT_NAMESPACE: Final = "default"  # the SDK's own
CONNECT_TIMEOUT: Final = timedelta(seconds=10)
# What workflow modules import. They themselves stay in the sandbox, which would be off for them.
# A second structlog, imported inside the sandbox, would not be set up as this process's is.
PASSTHROUGH: Final = ("activities", "saas", "structlog")
HOW_TO_START: Final = '"make dev" starts one; then "source .devstack/env" in this shell.'
ADVICE: Final = Advice(
    database=HOW_TO_START,
    login='"starter.py migrate" gives the roles the passwords of these URLs.',
    temporal=f"Set TEMPORAL_ADDRESS to one that does. {HOW_TO_START}",
    namespace="Create it, or set TEMPORAL_NAMESPACE.",
)


def database(
    settings: Settings,
    *,
    application_name: str = "temporal-tenancy",
    at_once: int | None = None,
) -> Database:
    """The runtime roles' engines, as far as the environment has their URLs; nothing is sent yet.

    `at_once` is how many activities of a queue the process runs at once: one tenant's share of the
    connections is less, so that what waits in them for its locks leaves room for others.

    Raises:
        NotReachable: the environment names no control plane.
        ConfigurationError: a URL is not one of PostgreSQL.
    """
    if settings.platform_database_url is None:
        raise NotReachable(f"PLATFORM_DATABASE_URL is not set. {HOW_TO_START}")
    size, reserved = settings.tenant_pool_size, settings.tenant_pool_reserved
    if at_once is not None:
        reserved = max(reserved, size - (at_once - reserved))
    return Database(
        tenant_url=plain(settings.tenant_database_url),
        platform_url=plain(settings.platform_database_url),
        application_name=application_name,
        tenant_pool=PoolShare(size, reserved),
        tenant_limits=settings.tenant_limits(),
    )


def plain(secret: SecretStr | None) -> str | None:
    """A setting's value, for whoever connects with it."""
    return None if secret is None else secret.get_secret_value()


def temporal_config() -> ClientConnectConfig:
    """Temporal's address, namespace and credentials, by `temporalio.envconfig`.

    Raises:
        ConfigurationError: a profile, a file or a variable of it is not right.
    """
    try:
        config = ClientConfig.load_client_connect_config()
    except (RuntimeError, ValueError, OSError) as error:
        raise ConfigurationError(
            f"Temporal's settings (TEMPORAL_*) cannot be read: {_first_line(error)}."
        ) from None
    config.setdefault("target_host", DEFAULT_ADDRESS)
    config.setdefault("namespace", DEFAULT_NAMESPACE)
    return config


async def connect_client(
    database: Database | None = None, *, alerts: Sequence[AlertSink] = ()
) -> Client:
    """Connects to Temporal with the plugin on, which knows the application's jobs.

    With `database`, the control plane there is the directory of tenants, and workers of this
    client open their sessions on it. `alerts` are the ways to people of such workers.

    Raises:
        NotReachable: the server does not answer, or not to these credentials.
        ConfigurationError: Temporal's settings cannot be read.
    """
    config = temporal_config()
    plugin = TenancyPlugin(
        directory=None if database is None else ControlPlaneDirectory(database),
        database=database,
        passthrough=PASSTHROUGH,
        alerts=alerts,
    )
    with reaching_servers(_address, ADVICE, connecting=True):
        return await Client.connect(**config, plugins=[plugin], connect_timeout=CONNECT_TIMEOUT)


@contextmanager
def reaching() -> Iterator[None]:
    """Turns whatever fails in the block because a server is away into `NotReachable`."""
    with reaching_servers(_address, ADVICE):
        yield


def _address() -> tuple[str, str]:
    config = temporal_config()
    return config["target_host"], config["namespace"]


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")
