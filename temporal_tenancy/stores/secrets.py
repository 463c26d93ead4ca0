"""The connections of stores in other databases, which a secret store holds and no row does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, Protocol

from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.redaction import never_repeat
from temporal_tenancy.postgres.database_urls import database_url
from temporal_tenancy.postgres.secret_texts import hidden
from temporal_tenancy.stores._secret_files import SecretFile, secret_folder
from temporal_tenancy.stores.errors import ConnectionSecretMissing

URL_MAX_BYTES: Final = 16 * 1024

# The ends of the names of a store's connections, one for each runtime role.
TENANT: Final = "tenant"
PLATFORM: Final = "platform"
RELAY: Final = "relay"


class ConnectionSecrets(Protocol):
    """A source of connections, by name."""

    async def url(self, name: str) -> str:
        """Returns the URL of the connection `name`, such as `t_9f3c.tenant`.

        It is called again within seconds, so that a rotated password takes effect without a
        restart. Raises `ConnectionSecretMissing`, whose message does not quote the URL.
        """


class WritableConnectionSecrets(ConnectionSecrets, Protocol):
    """A source of connections that preparing a store can write to."""

    def put(self, name: str, url: str) -> None:
        """Stores a URL under `name`, or replaces it; raises `ConfigurationError`."""

    def remove(self, name: str) -> None:
        """Deletes what is stored under `name`, if anything; raises `ConfigurationError`."""


def secret_name(secret: str, role: str) -> str:
    """Returns the name of a store's connection with the login of `role`, such as `TENANT`."""
    return f"{secret}.{role}"


class FileConnectionSecrets:
    """Connections in a folder, one file each; every call reads the file."""

    def __init__(self, folder: Path) -> None:
        """`folder` holds the files; it is made, for this user alone, with the first one."""
        self._folder = folder

    @classmethod
    def from_url(cls, url: str, setting: str) -> FileConnectionSecrets:
        """Makes one from `file:///folder`; `setting` is where a person has set it.

        Raises `ConfigurationError` for any other URL.
        """
        folder = secret_folder(url)
        if folder is None:
            raise ConfigurationError(
                f"{setting} must be file:///folder, with one file for each connection."
            )
        return cls(folder)

    async def url(self, name: str) -> str:
        """As in `ConnectionSecrets`; ValueError if `name` is not a valid name."""
        file = self._file(name)
        try:
            content = file.read()
            if content is None:
                raise ConnectionSecretMissing(
                    f'the secret store has no connection "{name}". Put its URL into a file of '
                    "that name."
                )
            url = hidden(content.strip())
            parsed = database_url(url)
        # The original messages may contain a part of the URL.
        except (OSError, ValueError):
            raise ConnectionSecretMissing(
                f'the connection "{name}" cannot be read. Store it alone in a file, as '
                "postgresql://role:password@host:port/database."
            ) from None
        never_repeat(url)
        never_repeat(str(parsed.password or ""))
        return url

    def put(self, name: str, url: str) -> None:
        """Stores a URL in a file that this user alone can read."""
        file = self._file(name)
        try:
            file.write(url)
        except OSError as error:
            raise _not_written(error) from None

    def remove(self, name: str) -> None:
        """Deletes the file, if there is one."""
        file = self._file(name)
        try:
            file.remove()
        except OSError as error:
            raise _not_written(error) from None

    def _file(self, name: str) -> SecretFile:
        return SecretFile.of(self._folder, name, what="a connection", max_bytes=URL_MAX_BYTES)


def _not_written(error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"the secret store cannot be written: {os.strerror(error.errno or 0)}. Give this process "
        "write access to its folder."
    )
