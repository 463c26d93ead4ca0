"""The connections of stores in other databases, which a secret store holds and no row does."""

from __future__ import annotations

import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import unquote, urlsplit

from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.redaction import never_repeat
from temporal_tenancy.postgres.database_urls import database_url
from temporal_tenancy.postgres.secret_texts import hidden
from temporal_tenancy.stores.errors import ConnectionSecretMissing

URL_MAX_BYTES: Final = 16 * 1024
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]*(\.[a-z0-9][a-z0-9_-]*)*")  # rules out ".."

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
        parsed = urlsplit(url)
        if parsed.scheme != "file" or parsed.netloc not in ("", "localhost") or not parsed.path:
            raise ConfigurationError(
                f"{setting} must be file:///folder, with one file for each connection."
            )
        return cls(Path(unquote(parsed.path)))

    async def url(self, name: str) -> str:
        """As in `ConnectionSecrets`; ValueError if `name` is not a valid name."""
        path = self._path(name)
        try:
            with path.open("rb") as file:
                content = file.read(URL_MAX_BYTES + 1)
            if len(content) > URL_MAX_BYTES:
                raise ValueError
            url = hidden(content.decode().strip())
            parsed = database_url(url)
        except (FileNotFoundError, NotADirectoryError):
            raise ConnectionSecretMissing(
                f'the secret store has no connection "{name}". Put its URL into a file of that '
                "name."
            ) from None
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
        path = self._path(name)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, written = tempfile.mkstemp(prefix=".", dir=path.parent)  # with mode 0600
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(url.encode())
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
        """Deletes the file, if there is one."""
        try:
            self._path(name).unlink(missing_ok=True)
        except NotADirectoryError:
            return
        except OSError as error:
            raise _not_written(error) from None

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot be the name of a connection: a-z 0-9 _ - and dots.")
        return self._folder / name


def _not_written(error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"the secret store cannot be written: {os.strerror(error.errno or 0)}. Give this process "
        "write access to its folder."
    )
