"""The passwords of the embedded PostgreSQL's roles, generated once and kept in a file."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from pathlib import Path

from dev.devstack.errors import PartMissing
from dev.devstack.files import write_private


class Credentials:
    """A password for each role, in a JSON file that only its owner may read."""

    def __init__(self, path: Path, passwords: dict[str, str]) -> None:
        self.path = path
        self._passwords = passwords

    def __getitem__(self, role: str) -> str:
        return self._passwords[role]

    @classmethod
    def create(cls, path: Path, roles: Sequence[str]) -> Credentials:
        """Generates a random password for each role and writes the file."""
        passwords = {role: secrets.token_urlsafe(24) for role in roles}
        write_private(path, json.dumps(passwords, indent=2) + "\n")
        return cls(path, passwords)

    @classmethod
    def read(cls, path: Path, roles: Sequence[str]) -> Credentials:
        """Reads the file.

        Raises:
            PartMissing: the file does not exist, is damaged, or lacks a role's password.
        """
        passwords = _passwords(path)
        for role in roles:
            if role not in passwords:
                raise PartMissing(
                    f"{path} does not hold the password of {role}, which the data beside it needs. "
                    f"Delete {path.parent} to start over."
                )
        return cls(path, passwords)


def _passwords(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
