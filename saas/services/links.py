"""Signed, expiring download links to a tenant's objects."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from itsdangerous import BadData, URLSafeSerializer

from saas.settings import load_settings
from temporal_tenancy import (
    ConfigurationError,
    TenantInvalid,
    TenantMismatch,
    current_tenant,
    tenant_folder,
    tenant_of_folder,
)

DOWNLOADS: Final = "/downloads"  # the path under WEB_URL where the HTTP door serves them


class LinkRefused(Exception):
    """The link does not open anything."""

    def __init__(self) -> None:
        """Takes the class's docstring as the message."""
        self.message = type(self).__doc__ or ""
        super().__init__(self.message)


class LinkForged(LinkRefused):
    """This link is not valid. Ask for a new one."""


class LinkExpired(LinkRefused):
    """This link has expired. Ask for a new one."""


@dataclass(frozen=True)
class LinkTarget:
    """The object that a link opens."""

    tenant_id: str
    path: str


def make_link(path: str, expires_in: timedelta) -> str:
    """Returns a URL that opens an object of the current tenant for `expires_in`.

    The URL is a credential: keep it out of logs, histories and payloads.

    Raises:
        TenantMismatch: the path is not the current tenant's.
        ConfigurationError: WEB_URL or LINK_SECRET is not set.
    """
    tenant = current_tenant()
    if not path.startswith(f"{tenant_folder(tenant)}/"):
        raise TenantMismatch(
            f"a link of {tenant} can only open an object of {tenant}. "
            "Build its path with object_path(area, name)."
        )
    web = load_settings().web_url
    if web is None:
        raise ConfigurationError("links have no address. Set WEB_URL to the URL of the HTTP door.")
    expires = datetime.now(UTC) + expires_in
    token = _serializer().dumps([path, int(expires.timestamp())])
    return f"{web.rstrip('/')}{DOWNLOADS}/{token}"


def read_link(token: str, now: datetime) -> LinkTarget:
    """Returns what a link opens at `now` (aware); `token` is the link's last path segment.

    Raises:
        LinkExpired: the link has expired.
        LinkForged: the link was not made by `make_link`.
        ConfigurationError: LINK_SECRET is not set.
    """
    try:
        found = _serializer().loads(token)
    except BadData:
        raise LinkForged from None
    match found:
        case [str(path), int(expires)]:
            pass
        case _:  # signed with the same secret, for something else
            raise LinkForged
    if now.timestamp() >= expires:
        raise LinkExpired
    try:
        tenant = tenant_of_folder(path.split("/")[0])
    except TenantInvalid:
        raise LinkForged from None
    return LinkTarget(tenant_id=tenant, path=path)


def _serializer() -> URLSafeSerializer:
    secret = load_settings().link_secret
    if secret is None:
        raise ConfigurationError("links cannot be signed. Set LINK_SECRET to a random value.")
    return URLSafeSerializer(
        secret.get_secret_value(),
        salt="downloads",
        signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
    )
