"""Tenants' own credentials, one file per credential."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Final

from temporalio.exceptions import ApplicationError

from saas.settings import load_settings
from temporal_tenancy import ConfigurationError, current_tenant, tenant_folder
from temporal_tenancy.core import never_repeat
from temporal_tenancy.stores import SecretFile, secret_folder

SECRET_MAX_BYTES: Final = 64 * 1024


class SecretMissing(ApplicationError):
    """The tenant does not have the credential."""

    def __init__(self, message: str) -> None:
        super().__init__(message, type=type(self).__name__, non_retryable=True)


class SecretRefused(Exception):
    """The secret store does not accept the credential."""

    def __init__(self, message: str) -> None:
        self.message = message
        super().__init__(message)


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
        file = self._file(name)
        try:
            content = file.read()
        # The original messages may contain a part of the credential.
        except (OSError, ValueError):
            raise SecretMissing(
                f'the credential "{name}" of {current_tenant()} cannot be read. '
                f"Store it alone in a file, as UTF-8 text of at most {SECRET_MAX_BYTES:,} bytes."
            ) from None
        if content is None:
            return None
        value = content.rstrip("\r\n")
        never_repeat(value)
        return value or None

    def put(self, name: str, value: str) -> None:
        """Stores a credential of the current tenant, or replaces it; readable by this user alone.

        Raises:
            SecretRefused: the store cannot be written, or the value could not be read back.
            ScopeMissing, ValueError: as for `get`.
        """
        file = self._file(name)
        if value != value.rstrip("\r\n") or not value or len(value.encode()) > SECRET_MAX_BYTES:
            raise SecretRefused(
                f"a credential is text of 1 to {SECRET_MAX_BYTES:,} bytes that does not end with a "
                "line end."
            )
        try:
            file.write(value)
        except OSError as error:
            raise _not_written(error) from None

    def remove(self, name: str) -> None:
        """Deletes a credential of the current tenant if it exists; raises the errors of `put`."""
        file = self._file(name)
        try:
            file.remove()
        except OSError as error:
            raise _not_written(error) from None

    def _file(self, name: str) -> SecretFile:
        folder = self._folder / tenant_folder(current_tenant())
        return SecretFile.of(folder, name, what="a credential", max_bytes=SECRET_MAX_BYTES)


def _not_written(error: OSError) -> SecretRefused:
    return SecretRefused(
        f"the secret store cannot be written: {os.strerror(error.errno or 0)}. Give this process "
        "write access to the folder of SECRETS_URL."
    )


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
    folder = secret_folder(url)
    if folder is None:
        raise ConfigurationError("SECRETS_URL must be file:///folder, with one folder per tenant.")
    return SecretStore(folder)
