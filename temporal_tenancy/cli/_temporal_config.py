"""Temporal's address, namespace and credentials, from the environment."""

from __future__ import annotations

import os
import re
from typing import Final

from temporalio.envconfig import ClientConfig, ClientConnectConfig
from temporalio.service import TLSConfig

from temporal_tenancy.core.errors import ConfigurationError

TLS: Final = "TEMPORAL_TLS"
API_KEY: Final = "TEMPORAL_API_KEY"
DEFAULT_ADDRESS: Final = "localhost:7233"  # the SDK's default
DEFAULT_NAMESPACE: Final = "default"  # the SDK's default

_KEY: Final = re.compile(r"[!-~]*")  # what the header can hold


def temporal_config() -> ClientConnectConfig:
    """Returns Temporal's address, namespace and credentials from `temporalio.envconfig`.

    Raises:
        ConfigurationError: a profile, file or variable is invalid.
    """
    if os.environ.get(TLS, "").casefold() not in (
        "",
        "true",
        "false",
        "1",
        "0",
    ):  # others would be ignored
        raise ConfigurationError(f"{TLS} is true or false.")
    try:
        config = ClientConfig.load_client_connect_config()
    except (RuntimeError, ValueError, OSError) as error:
        text = str(error).strip() or type(error).__name__
        raise ConfigurationError(
            f"Temporal's settings (TEMPORAL_*) cannot be read: {text.splitlines()[0].rstrip('.')}."
        ) from None
    tls = config.get("tls")
    if isinstance(tls, TLSConfig) and bool(tls.client_cert) is not bool(tls.client_private_key):
        raise ConfigurationError(
            "a client certificate for Temporal needs its key, and a key its certificate. Set both "
            "TEMPORAL_TLS_CLIENT_CERT_PATH and TEMPORAL_TLS_CLIENT_KEY_PATH."
        )
    if not _KEY.fullmatch(config.get("api_key") or ""):
        raise ConfigurationError(
            f"{API_KEY} has a space, a line break or another character that no key has. Set it to "
            "the key alone."
        )
    config.setdefault("target_host", DEFAULT_ADDRESS)
    config.setdefault("namespace", DEFAULT_NAMESPACE)
    return config
