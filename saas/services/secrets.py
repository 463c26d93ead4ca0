"""Tenants' own credentials, read from mounted files, one file per credential."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from temporalio.exceptions import ApplicationError

from saas.settings import load_settings
from temporal_tenancy import ConfigurationError, current_tenant, tenant_folder

SECRET_MAX_BYTES: Final = 64 * 1024
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]*(\.[a-z0-9][a-z0-9_-]*)*")  # rules out ".."


class SecretMissing(ApplicationError):
    """The tenant does not have the credential."""

    def __init__(self, message: str) -> None:
        super().__init__(message, type=type(self).__name__, non_retryable=True)


class SecretStore:
    """The current tenant's credentials, in the tenant's own folder.

    Each call reads the file, so that a rotated credential takes effect without a restart.
    """

    def __init__(self, folder: Path) -> None:
        """`folder` contains each tenant's `tenant_folder`, with one file per credential."""
        self._folder = folder

    def get(self, name: str) -> str:
        """Returns the credential `name`, such as `payments.webhook`, without its line ending.

        Raises:
            SecretMissing: the current tenant has no credential of that name, or it is unreadable.
            ScopeMissing: the scope is not a tenant's.
            ValueError: `name` is not a valid name.
        """
        value = self.find(name)
        if value is None:
            raise SecretMissing(
                f'{current_tenant()} has no credential "{name}". '
                f"Put it into {tenant_folder(current_tenant())}/{name} below SECRETS_URL."
            )
        return value

    def find(self, name: str) -> str | None:
        """Like `get`, but returns None if the tenant has no credential of that name."""
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot be the name of a credential: a-z 0-9 _ - and dots.")
        try:
            with (self._folder / tenant_folder(current_tenant()) / name).open("rb") as file:
                content = file.read(SECRET_MAX_BYTES + 1)
            if len(content) > SECRET_MAX_BYTES:
                raise ValueError
            value = content.decode().rstrip("\r\n")
        except (FileNotFoundError, NotADirectoryError):
            return None
        # The original messages may contain a part of the credential.
        except (OSError, ValueError):
            raise SecretMissing(
                f'the credential "{name}" of {current_tenant()} cannot be read. '
                f"Store it alone in a file, as UTF-8 text of at most {SECRET_MAX_BYTES:,} bytes."
            ) from None
        return value or None


def current_secrets() -> SecretStore:
    """Returns the store that SECRETS_URL names; raises `ConfigurationError` if it is not set."""
    url = load_settings().secrets_url
    if url is None:
        raise ConfigurationError(
            "this process has no secret store. Set SECRETS_URL to file:///folder."
        )
    return _store(url)


@cache
def _store(url: str) -> SecretStore:
    parsed = urlsplit(url)
    if parsed.scheme != "file" or parsed.netloc not in ("", "localhost") or not parsed.path:
        raise ConfigurationError("SECRETS_URL must be file:///folder, with one folder per tenant.")
    return SecretStore(Path(unquote(parsed.path)))
