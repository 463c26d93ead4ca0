"""The HTTP door's limits: timeouts, sizes and concurrency."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network

from saas.settings import Settings
from temporal_tenancy import ConfigurationError

Network = IPv4Network | IPv6Network

KIB = 1024


@dataclass(frozen=True)
class Limits:
    """Limits in seconds, bytes and concurrent uses; `Addresses` determines a caller's address."""

    trusted_proxies: tuple[Network, ...] = ()

    head_seconds: float = 10.0  # for a whole head, from the connection's start or its first byte
    head_max_bytes: int = 16 * KIB
    headers_max: int = 100
    idle_seconds: float = 5.0  # between two requests of a connection
    write_seconds: float = 30.0  # for the client to read what was sent, some 48 KiB at a time

    body_seconds: float = 30.0  # for a whole body, except uploads and webhooks
    upload_seconds: float = 3600.0
    webhook_seconds: float = 10.0
    drain_seconds: float = 1.0  # for the rest of a rejected request's body
    body_rate: int = 1 * KIB  # minimum rate of a body, in bytes per second
    body_window_seconds: float = 20.0  # that a body may stall

    connections: int = 1_000
    connections_per_address: int = 200  # except for trusted proxies
    requests: int = 500
    requests_per_address: int = 100
    requests_per_tenant: int = 50
    uploads: int = 40  # each uses up to 15 MiB of memory until it is stored
    uploads_per_address: int = 10
    uploads_per_tenant: int = 5
    streams_per_tenant: int = 20
    webhooks: int = 200  # not yet verified
    webhooks_per_address: int = 10
    key_failures_per_minute: int = 20  # per address

    def __post_init__(self) -> None:
        if self.requests >= self.connections:
            # Otherwise all connections may be busy, with no idle one to close for a new one.
            raise ConfigurationError(
                f"WEB_REQUESTS is {self.requests} and must be less than WEB_CONNECTIONS, which is "
                f"{self.connections}, as health checks need connections too. Lower the one or "
                "raise the other."
            )

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """Returns the limits in the settings; raises `ConfigurationError` if they contradict."""
        return cls(
            trusted_proxies=_networks(settings.trusted_proxies),
            head_seconds=settings.web_head_seconds,
            head_max_bytes=settings.web_head_max_bytes,
            headers_max=settings.web_headers_max,
            idle_seconds=settings.web_idle_seconds,
            write_seconds=settings.web_write_seconds,
            body_seconds=settings.web_body_seconds,
            upload_seconds=settings.web_upload_seconds,
            webhook_seconds=settings.web_webhook_seconds,
            drain_seconds=settings.web_drain_seconds,
            body_rate=settings.web_body_rate,
            body_window_seconds=settings.web_body_window_seconds,
            connections=settings.web_connections,
            connections_per_address=settings.web_connections_per_address,
            requests=settings.web_requests,
            requests_per_address=settings.web_requests_per_address,
            requests_per_tenant=settings.web_requests_per_tenant,
            uploads=settings.web_uploads,
            uploads_per_address=settings.web_uploads_per_address,
            uploads_per_tenant=settings.web_uploads_per_tenant,
            streams_per_tenant=settings.web_streams_per_tenant,
            webhooks=settings.web_webhooks,
            webhooks_per_address=settings.web_webhooks_per_address,
            key_failures_per_minute=settings.web_key_failures_per_minute,
        )


def _networks(names: str) -> tuple[Network, ...]:
    try:
        return tuple(ip_network(name.strip()) for name in names.split(",") if name.strip())
    except ValueError:
        raise ConfigurationError(
            "TRUSTED_PROXIES must be comma-separated networks, as in 10.0.0.0/8, 2001:db8::/32. "
            "Name only the proxies in front of the door, as their X-Forwarded-For is trusted."
        ) from None
