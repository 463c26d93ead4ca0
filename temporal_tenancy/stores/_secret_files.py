"""Secrets in files, one each, which this user alone can read."""

from __future__ import annotations

import os
import re
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]*(\.[a-z0-9][a-z0-9_-]*)*")  # rules out ".."


@dataclass(frozen=True)
class SecretFile:
    """A file that holds one secret, as UTF-8 text."""

    path: Path
    max_bytes: int  # of the text; a longer one is not read

    @classmethod
    def of(cls, folder: Path, name: str, *, what: str, max_bytes: int) -> SecretFile:
        """Returns the file `name` in a folder; ValueError if it cannot be the name of `what`."""
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot be the name of {what}: a-z 0-9 _ - and dots.")
        return cls(folder / name, max_bytes)

    def read(self) -> str | None:
        """Returns the text; None if there is no file.

        Raises:
            OSError: it cannot be read.
            ValueError: it is too long, or no UTF-8; the message may contain a part of it.
        """
        try:
            with self.path.open("rb") as file:
                content = file.read(self.max_bytes + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if len(content) > self.max_bytes:
            raise ValueError(f"it has more than {self.max_bytes:,} bytes.")
        return content.decode()

    def write(self, secret: str) -> None:
        """Stores a secret, or replaces it as a whole; makes the folder. Raises `OSError`."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, written = tempfile.mkstemp(prefix=".", dir=self.path.parent)  # with mode 0600
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(secret.encode())
                file.flush()
                os.fsync(file.fileno())
            os.replace(written, self.path)
        except BaseException:
            with suppress(OSError):
                os.unlink(written)
            raise

    def remove(self) -> None:
        """Deletes the file, if there is one. Raises `OSError`."""
        with suppress(NotADirectoryError):
            self.path.unlink(missing_ok=True)


def secret_folder(url: str) -> Path | None:
    """Returns the folder that a URL like `file:///folder` names; None for any other URL."""
    parsed = urlsplit(url)
    if parsed.scheme != "file" or parsed.netloc not in ("", "localhost") or not parsed.path:
        return None
    return Path(unquote(parsed.path))
