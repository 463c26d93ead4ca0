"""Tenants' own credentials, one file per credential."""

from __future__ import annotations

import os
import re
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from temporalio.exceptions import ApplicationError

from saas.settings import load_settings
from temporal_tenancy import ConfigurationError, current_tenant, tenant_folder
from temporal_tenancy.core import never_repeat

SECRET_MAX_BYTES: Final = 64 * 1024
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]*(\.[a-z0-9][a-z0-9_-]*)*")  # rules out ".."


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
        path = self._path(name)
        try:
            with path.open("rb") as file:
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
        never_repeat(value)
        return value or None

    def put(self, name: str, value: str) -> None:
        """Stores a credential of the current tenant, or replaces it; readable by this user alone.

        Raises:
            SecretRefused: the store cannot be written, or the value could not be read back.
            ScopeMissing, ValueError: as for `get`.
        """
        path = self._path(name)
        if value != value.rstrip("\r\n") or not value or len(value.encode()) > SECRET_MAX_BYTES:
            raise SecretRefused(
                f"a credential is text of 1 to {SECRET_MAX_BYTES:,} bytes that does not end with a "
                "line end."
            )
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, written = tempfile.mkstemp(prefix=".", dir=path.parent)  # with mode 0600
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(value.encode())
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(written, path)
            except BaseException:
                with suppress(OSError):
                    os.unlink(written)
                raise
        except OSError as error:
            raise _not_written(error) from None

    def remove(self, name: str) -> None:
        """Deletes a credential of the current tenant if it exists; raises the errors of `put`."""
        try:
            self._path(name).unlink(missing_ok=True)
        except NotADirectoryError:
            return
        except OSError as error:
            raise _not_written(error) from None

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot be the name of a credential: a-z 0-9 _ - and dots.")
        return self._folder / tenant_folder(current_tenant()) / name


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
    parsed = urlsplit(url)
    if parsed.scheme != "file" or parsed.netloc not in ("", "localhost") or not parsed.path:
        raise ConfigurationError("SECRETS_URL must be file:///folder, with one folder per tenant.")
    return SecretStore(Path(unquote(parsed.path)))
