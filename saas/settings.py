"""What the environment says, but for Temporal's address: `temporalio.envconfig` reads that."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.postgres.pool_share import PoolShare
from temporal_tenancy.postgres.session_limits import SessionLimits


class Settings(BaseSettings):
    """The environment's variables, by their names in lower case."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    # Database URLs hold passwords.
    database_url: SecretStr | None = None  # the owner's: for migrations, and no worker's business
    tenant_database_url: SecretStr | None = None
    platform_database_url: SecretStr | None = None
    relay_database_url: SecretStr | None = None

    # Of a process's connections for tenants' data, and of a transaction on one of them.
    tenant_pool_size: Annotated[int, Field(ge=1)] = PoolShare.size
    # One tenant leaves these to others.
    tenant_pool_reserved: Annotated[int, Field(ge=PoolShare.reserved)] = PoolShare.reserved
    tenant_statement_timeout: timedelta = SessionLimits.statement
    tenant_lock_timeout: timedelta = SessionLimits.lock
    tenant_idle_timeout: timedelta = SessionLimits.idle  # in a transaction
    tenant_transaction_timeout: timedelta = SessionLimits.transaction

    temporal_ui_url: str | None = None  # None: runs are shown without a link

    storage_url: str | None = None  # of objects: file:///folder, s3://bucket/prefix, ...
    smtp_url: SecretStr | None = None  # smtp://user:password@host:port, or smtps://
    mail_from: str = "Airline metering <no-reply@saas.example>"
    secrets_url: str | None = None  # file:///folder of tenants' own credentials, a folder a tenant

    outgoing_http_allow: str = ""  # host:port, ...: reached though not public, and without TLS

    web_url: str | None = None  # under which people reach the HTTP door; links begin with it
    link_secret: SecretStr | None = None  # signs links that expire
    web_domain: str | None = None  # {tenant}.{web_domain} is a tenant's own host name
    web_upload_max_bytes: Annotated[int, Field(gt=0)] = 1024**3
    # What the door lets be taken of it: web/limits.py says what each is. Seconds, bytes, numbers.
    trusted_proxies: str = ""  # networks, with commas: their X-Forwarded-For is believed
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

    web_jwt_public_key: str | None = None  # PEM, or the path of a file: PEM, or JWKS
    web_jwt_audience: str | None = None
    web_jwt_issuer: str | None = None

    alert_webhook_url: SecretStr | None = None  # where operators are told of dead letters
    alert_webhook_secret: SecretStr | None = None  # whsec_..., signs what is sent there
    alert_mail_to: str | None = None

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["console", "json"] | None = None  # None: text on a terminal, else JSON

    relay_attempts: Annotated[int, Field(ge=1)] = 5  # of a message, before it is a dead letter
    relay_backoff: Annotated[timedelta, Field(gt=timedelta(0))] = timedelta(minutes=1)  # times 2^n

    worker_health_host: str = "127.0.0.1"  # in a container 0.0.0.0, or nobody can ask
    worker_health_port: Annotated[int, Field(ge=0, le=65535)] = 8080  # 0: any free one
    worker_grace_seconds: Annotated[float, Field(ge=0)] = 30.0  # for activities at a shutdown

    def tenant_limits(self) -> SessionLimits:
        """What ends a tenant's transaction that has no limits of its own."""
        return SessionLimits(
            statement=self.tenant_statement_timeout,
            lock=self.tenant_lock_timeout,
            idle=self.tenant_idle_timeout,
            transaction=self.tenant_transaction_timeout,
        )


def load_settings() -> Settings:
    """Reads the environment; raises `ConfigurationError`, which repeats no value of it."""
    try:
        return Settings()
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc'])).upper()}: {problem['msg']}"
            for problem in error.errors(include_input=False, include_url=False)
        )
        raise ConfigurationError(f"the environment is not right: {problems}.") from None
