"""What the environment says, without its secrets."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from pydantic import SecretStr
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from saas.settings import Settings, load_settings
from temporal_tenancy.cli import Answer, facts, temporal_config

MASK: Final = "***"
_SECRET_OPTIONS: Final = ("password", "sslpassword")


async def show() -> Answer:
    """Every setting by the name of its variable; None where nothing is set."""
    settings = load_settings()
    temporal = temporal_config()
    document: dict[str, object] = {
        "TEMPORAL_ADDRESS": temporal.get("target_host"),
        "TEMPORAL_NAMESPACE": temporal.get("namespace"),
        "TEMPORAL_API_KEY": MASK if temporal.get("api_key") else None,
        "TEMPORAL_TLS": bool(temporal.get("tls")),
    }
    for name in Settings.model_fields:
        value = getattr(settings, name)
        document[name.upper()] = (
            masked(value.get_secret_value()) if isinstance(value, SecretStr) else value
        )
    return Answer(document, facts((name, _shown(value)) for name, value in document.items()))


def masked(url: str) -> str:
    """A server's URL without its password; nothing of what is no such URL."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return MASK
    if parsed.drivername in ("http", "https"):
        return MASK  # whose path is a secret as often as not
    return parsed.difference_update_query(_SECRET_OPTIONS).render_as_string(hide_password=True)


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, timedelta):
        return f"{value / timedelta(seconds=1):.15g} s"
    return "-" if value is None or value == "" else str(value)
