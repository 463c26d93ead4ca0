"""Local stand-ins for outside systems: mail, object storage, tenants' credentials."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from dev.devstack.credentials import write_private
from dev.devstack.mail_sink import MailSink
from dev.devstack.ports import LOOPBACK, prefer

WEB_PORT = 8000


def start_outside(parts: ExitStack, directory: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Provides whatever `environ` does not name, until `parts` closes.

    Returns the variables for processes that use it. Chooses the HTTP door's port, but does not
    start the door.
    """
    made: dict[str, str] = {}
    if not environ.get("SMTP_URL"):
        made["SMTP_URL"] = parts.enter_context(MailSink(directory / "mail")).url
    if not environ.get("STORAGE_URL"):
        made["STORAGE_URL"] = _folder(directory / "storage")
    if not environ.get("SECRETS_URL"):
        made["SECRETS_URL"] = _folder(directory / "secrets")
    if not environ.get("LINK_SECRET"):
        made["LINK_SECRET"] = _kept_secret(directory / "link_secret")
    if not environ.get("WEB_URL"):
        made["WEB_URL"] = f"http://{LOOPBACK}:{prefer(WEB_PORT)}"
    return made


def _folder(path: Path) -> str:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path.as_uri()


def _kept_secret(path: Path) -> str:
    """Returns the secret in the file; generates it if there is none."""
    if not path.exists():
        write_private(path, secrets.token_urlsafe(32))
    return path.read_text()
