"""Certificates and keys for Temporal: read from their files, and checked before they are used."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final

from temporalio.envconfig import ClientConfigTLS, DataSource
from temporalio.service import TLSConfig

from temporal_tenancy.core.display import printable
from temporal_tenancy.core.errors import ConfigurationError

SettingName = Callable[
    [str], str
]  # from a name such as "tls.client_cert_path" to what the user set

_KEY: Final = re.compile(r"-----BEGIN (?:RSA |EC )?PRIVATE KEY-----\s(?!Proc-Type)")
_LOCKED_KEY: Final = re.compile(r"-----BEGIN ENCRYPTED PRIVATE KEY-----|Proc-Type: 4,ENCRYPTED")


def tls_config(tls: ClientConfigTLS, setting: SettingName) -> TLSConfig | bool:
    """Returns the TLS of a connection; False if it is turned off.

    Args:
        tls: the paths or texts of certificates and keys.
        setting: returns how the user names a setting.

    Raises:
        ConfigurationError: a file cannot be read, or is not what it should be. It names the setting
            and the file, and never repeats what is in it.
    """
    if tls.disabled:
        return False
    authority = _read("tls.server_ca_cert", tls.server_root_ca_cert, setting, _not_certificate)
    certificate = _read("tls.client_cert", tls.client_cert, setting, _not_certificate)
    key = _read("tls.client_key", tls.client_private_key, setting, _not_key)
    if certificate is None and key is not None:
        raise _alone(
            setting, "tls.client_key", tls.client_private_key, "certificate", "tls.client_cert"
        )
    if key is None and certificate is not None:
        raise _alone(setting, "tls.client_cert", tls.client_cert, "key", "tls.client_key")
    return TLSConfig(
        domain=tls.server_name,
        server_root_ca_cert=authority,
        client_cert=certificate,
        client_private_key=key,
    )


def _alone(
    setting: SettingName, name: str, source: DataSource | None, lacks: str, other: str
) -> ConfigurationError:
    form = "path" if isinstance(source, Path) else "data"
    return ConfigurationError(
        f"{setting(f'{name}_{form}')} is set without its {lacks}. Set "
        f"{setting(f'{other}_{form}')} too."
    )


def _read(
    name: str,
    source: DataSource | None,
    setting: SettingName,
    fault: Callable[[str], str | None],
) -> bytes | None:
    """Returns what `source` holds, in PEM; raises `ConfigurationError` if it has a fault."""
    if source is None:
        return None
    if isinstance(source, Path):
        where = f"{setting(f'{name}_path')} names {printable(str(source))}, which"
        content = read_file(source, where)
    else:
        where = setting(f"{name}_data")
        content = source.encode() if isinstance(source, str) else source
    # What is not ASCII is around the PEM: the names in a bundle of authorities.
    if (found := fault(content.decode("ascii", errors="ignore"))) is not None:
        raise ConfigurationError(f"{where} {found}")
    return content


def read_file(path: Path, where: str) -> bytes:
    """Returns a file's content; raises `ConfigurationError`, which begins with `where`."""
    try:
        return path.read_bytes()
    except OSError as error:
        why = (error.strerror or type(error).__name__).lower()
        raise ConfigurationError(f"{where} cannot be read: {why}.") from None


def _not_certificate(text: str) -> str | None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError):  # ValueError: it is empty
        return "holds no certificate in PEM. Set it to one."
    return None


def _not_key(text: str) -> str | None:
    if _LOCKED_KEY.search(text):
        return "holds a private key that is encrypted. Set it to one that needs no password."
    return None if _KEY.search(text) else "holds no private key in PEM. Set it to one."
