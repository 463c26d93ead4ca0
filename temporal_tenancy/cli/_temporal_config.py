"""Temporal's address, namespace and credentials, from the environment."""

from __future__ import annotations

import os
from typing import Final

from temporalio.envconfig import ClientConfig, ClientConnectConfig

from temporal_tenancy.core.errors import ConfigurationError

TLS: Final = "TEMPORAL_TLS"
DEFAULT_ADDRESS: Final = "localhost:7233"  # the SDK's default
DEFAULT_NAMESPACE: Final = "default"  # the SDK's default


def temporal_config() -> ClientConnectConfig:
    """Returns Temporal's address, namespace and credentials from `temporalio.envconfig`.

    Raises:
        ConfigurationError: a profile, file or variable is invalid.
    """
    tls = os.environ.get(TLS, "")
    if tls.casefold() not in ("", "true", "false", "1", "0"):  # others would be ignored
        raise ConfigurationError(f"{TLS} is true or false.")
    try:
        config = ClientConfig.load_client_connect_config()
    except (RuntimeError, ValueError, OSError) as error:
        text = str(error).strip() or type(error).__name__
        raise ConfigurationError(
            f"Temporal's settings (TEMPORAL_*) cannot be read: {text.splitlines()[0].rstrip('.')}."
        ) from None
    config.setdefault("target_host", DEFAULT_ADDRESS)
    config.setdefault("namespace", DEFAULT_NAMESPACE)
    return config
