"""Connects to the servers that the environment names: PostgreSQL and Temporal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final

from pydantic import SecretStr

from saas.database.environment import TENANT_DATA
from saas.settings import Settings
from temporal_tenancy import ConfigurationError, Database, PoolShare, registry
from temporal_tenancy.cli import Advice, SettingMissing, temporal_config
from temporal_tenancy.cli import reaching as reaching_servers
from temporal_tenancy.control_plane import ControlPlaneDirectory
from temporal_tenancy.stores import ControlPlaneStores, FileConnectionSecrets

if TYPE_CHECKING:
    from temporalio.client import Client

    from temporal_tenancy import Feature
    from temporal_tenancy.dead_letters import AlertSink
    from temporal_tenancy.shared_state import SharedState

# Packages that workflow modules import. The workflow modules themselves stay in the sandbox. A
# second structlog, imported inside the sandbox, would lack this process's configuration.
PASSTHROUGH: Final = ("activities", "saas", "structlog")
HOW_TO_START: Final = (
    '"make dev" starts one; "starter.py" finds it, and other programs after "source .devstack/env".'
)
HOW_TO_OWN: Final = '"make dev" starts one; then "source .devstack/owner.env" in this shell.'
ADVICE: Final = Advice(
    database=HOW_TO_START,
    login='"starter.py migrate" gives the roles the passwords of these URLs.',
    temporal=f"Set TEMPORAL_ADDRESS to one that does. {HOW_TO_START}",
    namespace="Create it, or set TEMPORAL_NAMESPACE.",
)


def _load_jobs() -> None:
    from workflows import WORKFLOWS  # noqa: F401  # the jobs are known once they are imported


registry.load_later(_load_jobs)


def database(
    settings: Settings,
    *,
    application_name: str = "temporal-tenancy",
    at_once: int | None = None,
    how_to_start: str = HOW_TO_START,
) -> Database:
    """Returns the engines of the runtime roles whose URLs are set; does not connect yet.

    `at_once` is how many activities of a queue the process runs concurrently. One tenant's share of
    the connections stays below it, so that activities waiting for locks leave slots for others.
    `how_to_start` is said below "PLATFORM_DATABASE_URL is not set".

    Raises:
        NotReachable: PLATFORM_DATABASE_URL is not set.
        ConfigurationError: a URL is not a PostgreSQL URL, or that of connections not one of a
            folder; the message names its variable.
    """
    if settings.platform_database_url is None:
        raise SettingMissing(f"PLATFORM_DATABASE_URL is not set. {how_to_start}")
    require_url("TENANT_DATABASE_URL", settings.tenant_database_url)
    require_url("PLATFORM_DATABASE_URL", settings.platform_database_url)
    size, reserved = settings.tenant_pool_size, settings.tenant_pool_reserved
    if at_once is not None:
        reserved = max(reserved, size - (at_once - reserved))
    return Database(
        tenant_url=plain(settings.tenant_database_url),
        platform_url=plain(settings.platform_database_url),
        application_name=application_name,
        tenant_pool=PoolShare(size, reserved),
        tenant_limits=settings.tenant_limits(),
        stores=lambda made: ControlPlaneStores(made, connections(settings)),
    )


def connections(settings: Settings) -> FileConnectionSecrets | None:
    """Returns the connections of tenants' own databases, if CONNECTIONS_URL is set.

    Raises `ConfigurationError`, which names the variable, for what is no URL of a folder.
    """
    if settings.connections_url is None:
        return None
    return FileConnectionSecrets.from_url(settings.connections_url, "CONNECTIONS_URL")


def require_url(variable: str, url: SecretStr | None) -> None:
    """Raises `ConfigurationError`, which names the variable, for what is no PostgreSQL URL."""
    if url is None:
        return
    try:
        Database(platform_url=plain(url))  # does not connect
    except ConfigurationError as error:
        raise ConfigurationError(f"{variable}: {error}") from None


def shared_state_of(settings: Settings) -> SharedState:
    """Returns the Redis that processes share, or none; does not connect yet.

    Raises `ConfigurationError`, which names the variable, for what is no URL of Redis.
    """
    from temporal_tenancy.shared_state import SharedState  # loads Redis, as few commands need

    try:
        return SharedState(plain(settings.redis_url))
    except ConfigurationError as error:
        raise ConfigurationError(f"REDIS_URL: {error}") from None


@contextmanager
def observed(settings: Settings, service: str, *, worker: str | None = None) -> Iterator[None]:
    """Runs the block with the traces of `service` and its error reports, as far as they are set.

    Raises:
        MissingExtra: the extra `tracing` is not installed.
        ConfigurationError: SENTRY_DSN is not an address.
    """
    with ExitStack() as stack:
        if settings.otel_exporter_otlp_endpoint or settings.otel_exporter_otlp_traces_endpoint:
            from temporal_tenancy.tracing import start_tracing

            stack.callback(start_tracing(service).stop)
        if settings.sentry_dsn is not None:
            from temporal_tenancy.tracing import start_error_reports

            reports = start_error_reports(settings.sentry_dsn.get_secret_value(), worker=worker)
            stack.callback(reports.stop)
        yield


def plain(secret: SecretStr | None) -> str | None:
    """Returns a secret setting's value."""
    return None if secret is None else secret.get_secret_value()


async def connect_client(
    database: Database | None = None,
    *,
    alerts: Sequence[AlertSink] = (),
    features: Sequence[Feature] = (),
) -> Client:
    """Connects to Temporal with the tenancy plugin and the application's jobs.

    With `database`, its control plane is the directory of tenants, and workers of this client open
    their sessions on it. `alerts` is where those workers send alerts. `features` are added to the
    library's own.

    Raises:
        NotReachable: the server does not answer, or rejects the credentials.
        ConfigurationError: Temporal's settings cannot be read.
    """
    # Imported here: a command that asks only the database uses none of the features.
    from temporal_tenancy import TenancyPlugin
    from temporal_tenancy.cli import connect_temporal
    from temporal_tenancy.everything import everything

    plugin = TenancyPlugin(
        directory=None if database is None else ControlPlaneDirectory(database),
        features=[*everything(database, alerts=alerts), *features],
        passthrough=PASSTHROUGH,
        migrations=[TENANT_DATA],
    )
    with reaching_servers(_address, ADVICE, connecting=True):
        return await connect_temporal([plugin])


@contextmanager
def reaching() -> Iterator[None]:
    """Raises `NotReachable` for errors in the block that mean that a server does not answer."""
    with reaching_servers(_address, ADVICE):
        yield


def _address() -> tuple[str, str]:
    config = temporal_config()
    return config["target_host"], config["namespace"]
