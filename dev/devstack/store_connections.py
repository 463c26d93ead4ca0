"""The connections of tenants' databases on the stack's PostgreSQL, whose port may change."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from dev.devstack.files import write_private
from dev.devstack.ports import LOOPBACK


def point_connections(folder: Path, port: int) -> None:
    """Lets the connections in a folder lead to the PostgreSQL that now has `port`.

    A connection is a file with a URL, named for its database and the login. Those to databases
    elsewhere, or that are none, are left as they are.
    """
    for file in folder.iterdir() if folder.is_dir() else ():
        try:
            url = make_url(file.read_text().strip())
        except (ArgumentError, UnicodeDecodeError):
            continue
        ours = url.host == LOOPBACK and url.database == file.name.rpartition(".")[0]
        if ours and url.port != port:
            write_private(file, url.set(port=port).render_as_string(hide_password=False))
