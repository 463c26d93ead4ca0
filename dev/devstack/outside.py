"""Local stand-ins for outside systems: mail, object storage, secrets."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from dev.devstack.files import write_private
from dev.devstack.mail_sink import MailSink
from dev.devstack.ports import LOOPBACK, Ports
from dev.devstack.started import Started

WEB_PORT: Final = 8000
PORTS_NAME: Final = "web"
HEALTH_PORTS_NAME: Final = "web-health"
CONNECTIONS_VARIABLE: Final = "CONNECTIONS_URL"
FOLDERS: Final = {
    "STORAGE_URL": "storage",
    "SECRETS_URL": "secrets",
    CONNECTIONS_VARIABLE: "connections",
}


class Outside(Started):
    """Provides whatever the environment does not name.

    Chooses the HTTP door's port, but does not start the door.
    """

    def __init__(self, directory: Path, environ: Mapping[str, str], ports: Ports) -> None:
        """
        Args:
            directory: where mail, files and credentials are kept.
            environ: the environment.
            ports: keeps the ports from one run to the next.
        """
        self.mail: MailSink | None = None
        if not environ.get("SMTP_URL"):
            self.mail = MailSink(directory / "mail", ports=ports)
        self._directory = directory
        self._environ = environ
        self._ports = ports
        self._folders: dict[str, str] = {}
        self._web_url: str | None = None  # None: the environment names one

    def start(self) -> None:
        """Starts the mail sink, and creates the folders and the secret that are missing."""
        made: dict[str, str] = {}
        for name, folder in FOLDERS.items():
            if not self._environ.get(name):
                made[name] = _folder(self._directory / folder)
        if not self._environ.get("LINK_SECRET"):
            made["LINK_SECRET"] = _kept_secret(self._directory / "link_secret")
        self._folders = made
        if not self._environ.get("WEB_URL"):
            self.choose_web_port()
        if self.mail is not None:
            self.mail.start()

    def stop(self) -> None:
        """Stops the mail sink."""
        if self.mail is not None:
            self.mail.stop()

    @property
    def connections(self) -> Path | None:
        """Where the connections of tenants' databases are; None: where the environment says."""
        given = CONNECTIONS_VARIABLE not in self._folders
        return None if given else self._directory / FOLDERS[CONNECTIONS_VARIABLE]

    @property
    def web_is_given(self) -> bool:
        """Whether the environment names the HTTP door's address."""
        return self._web_url is None

    def choose_web_port(self) -> None:
        """Gives the HTTP door the port that it had last, or one that is free."""
        port = next(self._ports.candidates(PORTS_NAME, WEB_PORT))
        self._web_url = f"http://{LOOPBACK}:{port}"

    def variables(self) -> dict[str, str]:
        """Returns the variables for processes that use what is provided."""
        made = dict(self._folders)
        if self.mail is not None:
            made = {"SMTP_URL": self.mail.url} | made
        if self._web_url is not None:
            made["WEB_URL"] = self._web_url
        return made


def _folder(path: Path) -> str:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path.as_uri()


def _kept_secret(path: Path) -> str:
    """Returns the secret in the file; generates it if there is none."""
    if not path.exists():
        write_private(path, secrets.token_urlsafe(32))
    return path.read_text()
