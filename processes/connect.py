"""The way to the servers that the environment names: a `Database` and a Temporal client."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

from pydantic import SecretStr
from temporalio.client import Client
from temporalio.envconfig import ClientConfig, ClientConnectConfig
from temporalio.service import RPCError, RPCStatusCode

from saas.settings import Settings
from temporal_tenancy.control_plane.directory import ControlPlaneDirectory
from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.dead_letters.alerts import AlertSink
from temporal_tenancy.everything import TenancyPlugin
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.postgres.database_errors import DatabaseUnreachable
from temporal_tenancy.postgres.pool_share import PoolShare
from temporal_tenancy.sdk.lookups import is_namespace_missing
from workflows import WORKFLOWS  # noqa: F401  # the jobs are known once they are imported

DEFAULT_ADDRESS: Final = "localhost:7233"  # the SDK's default
DEFAULT_NAMESPACE: Final = "default"  # the SDK's default
CONNECT_TIMEOUT: Final = timedelta(seconds=10)
# What workflow modules import. They themselves stay in the sandbox, which would be off for them.
# A second structlog, imported inside the sandbox, would not be set up as this process's is.
PASSTHROUGH: Final = ("activities", "saas", "structlog")
HOW_TO_START: Final = '"make dev" starts one; then "source .devstack/env" in this shell.'
HOW_TO_GET_IN: Final = '"starter.py migrate" gives the roles the passwords of these URLs.'

AWAY: Final = (RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED)  # no answer
_CLOSED: Final = (RPCStatusCode.UNAUTHENTICATED, RPCStatusCode.PERMISSION_DENIED)
_CORE_REASON: Final = re.compile(r'(?:message: |error: |error", )"([^"]+)"')


class NotReachable(Exception):
    """Something that is needed does not answer."""

    def __init__(self, message: str | None = None) -> None:
        """`message` names what does not answer, without credentials, and how to start it."""
        self.message = message or type(self).__doc__ or ""
        super().__init__(self.message)

    @property
    def sentence(self) -> str:
        """What a person is shown: the type and the message."""
        return f"{type(self).__name__}: {self.message}"


def database(
    settings: Settings,
    *,
    application_name: str = "temporal-tenancy",
    at_once: int | None = None,
) -> Database:
    """Returns the engines of the runtime roles whose URLs are set; does not connect yet.

    `at_once` is how many activities of a queue the process runs concurrently. One tenant's share of
    the connections stays below it, so that activities waiting for locks leave slots for others.

    Raises:
        NotReachable: PLATFORM_DATABASE_URL is not set.
        ConfigurationError: a URL is not a PostgreSQL URL.
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
    """Returns a secret setting's value."""
    return None if secret is None else secret.get_secret_value()


def temporal_config() -> ClientConnectConfig:
    """Returns Temporal's address, namespace and credentials from `temporalio.envconfig`.

    Raises:
        ConfigurationError: a profile, file or variable is invalid.
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
    """Connects to Temporal with the tenancy plugin and the application's jobs.

    With `database`, its control plane is the directory of tenants, and workers of this client open
    their sessions on it. `alerts` is where those workers send alerts.

    Raises:
        NotReachable: the server does not answer, or rejects the credentials.
        ConfigurationError: Temporal's settings cannot be read.
    """
    config = temporal_config()
    plugin = TenancyPlugin(
        directory=None if database is None else ControlPlaneDirectory(database),
        database=database,
        passthrough=PASSTHROUGH,
        alerts=alerts,
    )
    try:
        return await Client.connect(**config, plugins=[plugin], connect_timeout=CONNECT_TIMEOUT)
    except RuntimeError as error:
        raise _temporal_away(config, error) from None


@contextmanager
def reaching() -> Iterator[None]:
    """Turns whatever fails in the block because a server is away into `NotReachable`."""
    try:
        yield
    except DatabaseUnreachable as error:
        closed = "authentication failed" in error.message
        hint = HOW_TO_GET_IN if closed else HOW_TO_START
        raise NotReachable(f"{error.message} {hint}") from None
    except RPCError as error:
        config = temporal_config()
        if error.status in (*AWAY, *_CLOSED):
            raise _temporal_away(config, error) from None
        if is_namespace_missing(error):
            raise NotReachable(
                f'{config["target_host"]} has no namespace "{config["namespace"]}". '
                "Create it, or set TEMPORAL_NAMESPACE."
            ) from None
        raise


def _temporal_away(config: ClientConnectConfig, error: Exception) -> NotReachable:
    return NotReachable(
        f"the Temporal server {config['target_host']} does not answer: {_first_line(error)}. "
        f"Set TEMPORAL_ADDRESS to one that does. {HOW_TO_START}"
    )


def _first_line(error: Exception) -> str:
    """The innermost reason that the SDK's core gives, or the message's first line."""
    text = str(error).strip() or type(error).__name__
    reasons = _CORE_REASON.findall(text)
    return (reasons[-1] if reasons else text.splitlines()[0]).rstrip(".")
