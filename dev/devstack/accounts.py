"""The account that PostgreSQL runs under when root starts the stack."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dev.devstack.errors import PartMissing

# The distribution's account if it exists, else the one that the PostgreSQL wheel would create.
ACCOUNT_NAMES = ("postgres", "pgserver")
OWN_STATUS = Path("/proc/self/status")

# From linux/capability.h. Containers often have only the second, wider one.
CAP_DAC_READ_SEARCH = 2
CAP_DAC_OVERRIDE = 1


@dataclass(frozen=True)
class Account:
    """The account that a process runs as.

    `capability` lets it enter folders that only root may enter, such as root's home.
    """

    name: str
    uid: int
    gid: int
    capability: int | None = None


def unprivileged_account(
    *paths: Path, names: Sequence[str] = ACCOUNT_NAMES, status: Path = OWN_STATUS
) -> Account | None:
    """Returns the account for a server that must not run as root but must reach these paths.

    None for a normal user, under whose own account it runs.

    Args:
        paths: what the server must reach.
        names: of accounts: the first that exists, else the last, which is then created.
        status: the file in which Linux lists this process's capabilities.

    Raises:
        PartMissing: no such account exists or can be created, or it cannot reach a path.
    """
    if os.geteuid() != 0:
        return None
    entry = _find(names) or _create(names)
    account = Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    closed = [folder for path in paths for folder in path.parents if not _enters(account, folder)]
    if not closed:
        return account
    capability = _passing_capability(status)
    if capability is None:
        raise PartMissing(
            f"PostgreSQL does not run as root, and the account {account.name} that it runs under "
            f"may not enter {closed[0]}. Run this as a normal user, or in a folder that others "
            "may enter."
        )
    return Account(account.name, account.uid, account.gid, capability)


def _find(names: Sequence[str]) -> pwd.struct_passwd | None:
    for name in names:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    return None


def _create(names: Sequence[str]) -> pwd.struct_passwd:
    name = names[-1]
    useradd = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin")
    if useradd is not None:
        subprocess.run(
            [useradd, "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", name],
            capture_output=True,
            check=False,
        )
    entry = _find(names)
    if entry is None:
        raise PartMissing(
            f'PostgreSQL does not run as root, and there is no account "{name}" to run it under. '
            f'Make it with "useradd --system {name}", or run this as a normal user.'
        )
    return entry


def _enters(account: Account, folder: Path) -> bool:
    status = folder.stat()
    if status.st_uid == account.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == account.gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def _passing_capability(status: Path) -> int | None:
    if sys.platform != "linux":
        return None
    for line in status.read_text().splitlines():
        if line.startswith("CapPrm:"):
            permitted = int(line.split()[1], 16)
            for capability in (CAP_DAC_READ_SEARCH, CAP_DAC_OVERRIDE):
                if permitted >> capability & 1:
                    return capability
    return None
