"""Settings from the environment, except Temporal's address, which `temporalio.envconfig` reads."""

from __future__ import annotations

import math
import os
from datetime import timedelta
from functools import lru_cache
from typing import Annotated, Final, Literal

from pydantic import AliasChoices, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from temporal_tenancy import ConfigurationError, PoolShare, SessionLimits
from temporal_tenancy.cli import TEMPORAL_VARIABLES
from temporal_tenancy.core import problem_of_field, refuse_misspelled


def _in_seconds(value: object) -> object:
    """Returns a number in a text as a number, which is one of seconds; anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        seconds = float(value)
    except ValueError:
        return value
    return seconds if math.isfinite(seconds) else value


Duration = Annotated[timedelta, BeforeValidator(_in_seconds)]  # seconds, or ISO 8601: PT5S

# What Temporal's Worker Controller sets on the workers that it starts.
OF_THE_CONTROLLER: Final = ("TEMPORAL_DEPLOYMENT_NAME", "TEMPORAL_WORKER_BUILD_ID")


class Settings(BaseSettings):
    """The environment variables; each field is a variable's name in lower case."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        env_ignore_empty=True,
        hide_input_in_errors=True,
        populate_by_name=True,
    )

    # Database URLs hold passwords.
    database_url: SecretStr | None = None  # the owner's: for migrations only, never for a worker
    tenant_database_url: SecretStr | None = None
    platform_database_url: SecretStr | None = None
    relay_database_url: SecretStr | None = None
    # The server's own, where the one above is a pooler's, which forwards no notifications.
    relay_listen_database_url: SecretStr | None = None

    # What processes share: redis://:password@host:port/0; None: each has rates of its own.
    redis_url: SecretStr | None = None

    # A process's connection pool for tenants' data, and the limits of a transaction on it.
    tenant_pool_size: Annotated[int, Field(ge=1)] = PoolShare.size
    # Connections that one tenant leaves to others.
    tenant_pool_reserved: Annotated[int, Field(ge=PoolShare.reserved)] = PoolShare.reserved
    tenant_statement_timeout: Duration = SessionLimits.statement
    tenant_lock_timeout: Duration = SessionLimits.lock
    tenant_idle_timeout: Duration = SessionLimits.idle  # in a transaction
    tenant_transaction_timeout: Duration = SessionLimits.transaction

    # Where traces go, by OTLP over HTTP; None: nowhere. OpenTelemetry reads all variables `OTEL_*`.
    otel_exporter_otlp_endpoint: str | None = None
    otel_exporter_otlp_traces_endpoint: str | None = None

    sentry_dsn: SecretStr | None = None  # where error reports go: https://key@host/project

    temporal_ui_url: str | None = None  # None: output has no links to runs

    storage_url: str | None = None  # object storage: file:///folder, s3://bucket/prefix, ...
    smtp_url: SecretStr | None = None  # smtp://user:password@host:port, or smtps://
    mail_from: str = "Airline metering <no-reply@saas.example>"
    secrets_url: str | None = None  # file:///folder with one folder of credentials per tenant
    connections_url: str | None = None  # file:///folder with the URLs of tenants' own databases

    outgoing_http_allow: str = ""  # host:port, ...: allowed though not public, also without TLS

    web_url: str | None = None  # the HTTP door's public URL; links start with it
    link_secret: SecretStr | None = None  # signs expiring links
    web_domain: str | None = None  # {tenant}.{web_domain} is a tenant's host name
    web_upload_max_bytes: Annotated[int, Field(gt=0)] = 1024**3
    # The HTTP door's limits, in seconds, bytes and counts; web/limits.py describes each.
    trusted_proxies: str = ""  # networks, comma-separated, whose X-Forwarded-For is trusted
    web_head_seconds: Annotated[float, Field(gt=0)] = 10.0
    web_head_max_bytes: Annotated[int, Field(ge=1024, le=1024**2)] = 16 * 1024
    web_headers_max: Annotated[int, Field(ge=10)] = 100
    web_idle_seconds: Annotated[float, Field(gt=0)] = 5.0
    web_write_seconds: Annotated[float, Field(gt=0)] = 30.0
    web_body_seconds: Annotated[float, Field(gt=0)] = 30.0
    web_upload_seconds: Annotated[float, Field(gt=0)] = 3600.0
    web_webhook_seconds: Annotated[float, Field(gt=0)] = 10.0
    web_drain_seconds: Annotated[float, Field(gt=0)] = 1.0
    web_body_rate: Annotated[int, Field(ge=1)] = 1024
    web_body_window_seconds: Annotated[float, Field(gt=0)] = 20.0
    web_connections: Annotated[int, Field(ge=2)] = 1_000
    web_connections_per_address: Annotated[int, Field(ge=1)] = 200
    web_requests: Annotated[int, Field(ge=1)] = 500
    web_requests_per_address: Annotated[int, Field(ge=1)] = 100
    web_requests_per_tenant: Annotated[int, Field(ge=1)] = 50
    web_uploads: Annotated[int, Field(ge=1)] = 40
    web_uploads_per_address: Annotated[int, Field(ge=1)] = 10
    web_uploads_per_tenant: Annotated[int, Field(ge=1)] = 5
    web_streams_per_tenant: Annotated[int, Field(ge=1)] = 20
    web_webhooks: Annotated[int, Field(ge=1)] = 200
    web_webhooks_per_address: Annotated[int, Field(ge=1)] = 10
    web_key_failures_per_minute: Annotated[int, Field(ge=1)] = 20

    web_jwt_public_key: str | None = None  # PEM, or the path of a PEM or JWKS file
    web_jwt_audience: str | None = None
    web_jwt_issuer: str | None = None

    alert_webhook_url: SecretStr | None = None  # receives operators' alerts
    alert_webhook_secret: SecretStr | None = None  # whsec_..., signs those alerts
    alert_mail_to: str | None = None
    runbooks_url: str | None = None  # before the path of an alert's page; None: the path alone

    metrics_token: SecretStr | None = None  # what a scrape needs; None: nothing
    metrics_collect_seconds: Annotated[float, Field(gt=0)] = 15.0  # between a relay's questions
    metrics_tenants: Annotated[int, Field(ge=0)] = 20  # the noisiest, with series of their own

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["console", "json"] | None = None  # None: text on a terminal, else JSON

    relay_attempts: Annotated[int, Field(ge=1)] = 5  # per message, before it is a dead letter
    relay_backoff: Annotated[Duration, Field(gt=timedelta(0))] = timedelta(minutes=1)  # times 2^n

    # To databases of tenants' own, which a relay looks at in turn.
    relay_store_connections: Annotated[int, Field(ge=1)] = 8
    relay_store_poll: Annotated[Duration, Field(gt=timedelta(0))] = timedelta(seconds=2)

    worker_health_host: str = "127.0.0.1"  # 0.0.0.0 in a container, so that probes reach it
    worker_health_port: Annotated[int, Field(ge=0, le=65535)] = 8080  # 0: any free port
    # Turns on worker versioning; None: unversioned. Temporal's Worker Controller sets the names
    # with TEMPORAL_ on the workers that it starts.
    worker_deployment_name: Annotated[
        str | None,
        Field(validation_alias=AliasChoices("worker_deployment_name", "temporal_deployment_name")),
    ] = None
    # None: a digest of the code and its dependencies.
    worker_build_id: Annotated[
        str | None,
        Field(validation_alias=AliasChoices("worker_build_id", "temporal_worker_build_id")),
    ] = None
    web_health_port: Annotated[int, Field(ge=0, le=65535)] | None = None  # None: no such port
    # After SIGTERM: how long a process says that it is not ready before it drains.
    drain_delay_seconds: Annotated[float, Field(ge=0)] = 1.0
    worker_grace_seconds: Annotated[float, Field(ge=0)] = 30.0  # for activities at shutdown

    def tenant_limits(self) -> SessionLimits:
        """Returns the default limits of a tenant's transaction."""
        return SessionLimits(
            statement=self.tenant_statement_timeout,
            lock=self.tenant_lock_timeout,
            idle=self.tenant_idle_timeout,
            transaction=self.tenant_transaction_timeout,
        )


def refuse_misspelled_settings() -> None:
    """Raises `ConfigurationError` if a variable looks like a misspelled setting that is not set."""
    names = [name.upper() for name in Settings.model_fields]
    refuse_misspelled([*names, *TEMPORAL_VARIABLES, *OF_THE_CONTROLLER], os.environ)


def load_settings() -> Settings:
    """Reads the environment; raises `ConfigurationError`, which never repeats a value."""
    return _settings_in(tuple(os.environ.items()))


# Checking all of them takes longer than most activities, some of which ask several times.
@lru_cache(maxsize=4)
def _settings_in(environ: tuple[tuple[str, str], ...]) -> Settings:
    """Reads the environment, which is `environ` now."""
    try:
        return Settings()
    except ValidationError as error:
        problems = "; ".join(
            problem_of_field({**problem, "loc": [str(each).upper() for each in problem["loc"]]})
            for problem in error.errors(include_input=False, include_url=False)
        )
        raise ConfigurationError(f"the environment is invalid: {problems}.") from None
