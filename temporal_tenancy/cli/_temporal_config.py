"""Temporal's address, namespace and credentials, from the environment or the file that it names."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from temporalio.envconfig import ClientConfig, ClientConfigProfile, ClientConnectConfig

from temporal_tenancy.cli._temporal_tls import read_file, tls_config
from temporal_tenancy.core.display import printable
from temporal_tenancy.core.errors import ConfigurationError

TLS: Final = "TEMPORAL_TLS"
CONFIG_FILE: Final = "TEMPORAL_CONFIG_FILE"
PROFILE: Final = "TEMPORAL_PROFILE"
DEFAULT_ADDRESS: Final = "localhost:7233"  # the SDK's default
DEFAULT_NAMESPACE: Final = "default"  # the SDK's default
DEFAULT_PROFILE: Final = "default"  # the SDK's default

_KEY: Final = re.compile(r"[!-~]*")  # what the header can hold
_POSITION: Final = re.compile(r"at (line \d+, column \d+)")
_NOT_TEXT: Final = re.compile("invalid utf-8")
_UNKNOWN_FIELD: Final = re.compile(r"^unknown field .*$", re.MULTILINE)


def temporal_config() -> ClientConnectConfig:
    """Returns Temporal's address, namespace and credentials, as `temporalio.envconfig` reads them.

    An empty variable is not set. Stricter than there, a file that `TEMPORAL_CONFIG_FILE` names must
    exist, have the profile, and hold no unknown key: otherwise what it says would be ignored, and
    a process would connect to localhost without TLS.

    Raises:
        ConfigurationError: a profile, file or variable is invalid. It names which, and repeats no
            value but a path's.
    """
    environ = {
        name: value
        for name, value in os.environ.items()
        if value or not name.startswith("TEMPORAL_")
    }
    if environ.get(TLS, "true").casefold() not in ("true", "false", "1", "0"):
        raise ConfigurationError(f"{TLS} is true or false.")  # others would be ignored
    profile = _profile(environ)

    setting = partial(_setting, environ)
    if not _KEY.fullmatch(profile.api_key or ""):
        raise ConfigurationError(
            f"{setting('api_key')} has a space, a line break or another character that no key has. "
            "Set it to the key alone."
        )
    config = replace(profile, tls=None).to_client_connect_config()
    if profile.tls is not None:
        config |= ClientConnectConfig(tls=tls_config(profile.tls, setting))
    config.setdefault("target_host", DEFAULT_ADDRESS)
    config.setdefault("namespace", DEFAULT_NAMESPACE)
    return config


def _profile(environ: Mapping[str, str]) -> ClientConfigProfile:
    """Returns the profile, with the variables in place of what it says."""
    file = environ.get(CONFIG_FILE)
    if file is not None:
        read_file(Path(file), f"{CONFIG_FILE} names {printable(file)}, which")
    strict = file is not None  # the default one may be a newer CLI's
    try:
        profiles = ClientConfig.load(config_file_strict=strict, override_env_vars=environ).profiles
        name = environ.get(PROFILE, DEFAULT_PROFILE)
        if name not in profiles and (file is not None or PROFILE in environ):
            raise ConfigurationError(_lacks(name, profiles, file))
        return ClientConfigProfile.load(config_file_strict=strict, override_env_vars=environ)
    except (RuntimeError, OSError) as error:
        text = str(error)
    if position := _POSITION.search(text):  # the text repeats that line, which may hold a key
        unknown = _UNKNOWN_FIELD.search(text)
        what = "it is not TOML, or not of this form" if unknown is None else unknown[0]
        raise ConfigurationError(f"{_file(file)} is invalid at {position[1]}: {what}.")
    if _NOT_TEXT.search(text):
        raise ConfigurationError(f"{_file(file)} is not TOML.")
    what = (text.strip() or "no reason was given").splitlines()[0].rstrip(".")
    raise ConfigurationError(f"Temporal's settings (TEMPORAL_*) cannot be read: {what}.")


def _lacks(name: str, profiles: Mapping[str, ClientConfigProfile], file: str | None) -> str:
    """Returns the sentence for a profile that does not exist."""
    if not profiles and file is None:
        return (
            f'{PROFILE} is "{printable(name)}", but there is no file of profiles. '
            f"Set {CONFIG_FILE} to the one that has it."
        )
    known = ", ".join(f'"{printable(each)}"' for each in sorted(profiles)) or "none"
    return (
        f'{_file(file)} has no profile "{printable(name)}". Set {PROFILE} to one that it has: '
        f"{known}."
    )


def _file(file: str | None) -> str:
    return "Temporal's default file" if file is None else f"{printable(file)} of {CONFIG_FILE}"


def _setting(environ: Mapping[str, str], name: str) -> str:
    """Returns how the user sets `tls.client_cert_path`: by a variable, or in the file."""
    variable = f"TEMPORAL_{name.replace('.', '_').upper()}"
    file = environ.get(CONFIG_FILE)
    if variable in environ or file is None:
        return variable
    profile = printable(environ.get(PROFILE, DEFAULT_PROFILE))
    return f'{name} of the profile "{profile}" in {printable(file)}'
