"""Saves what object storage holds as a file of the person's own."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

import typer

from temporal_tenancy.cli import Problem
from temporal_tenancy.core import number

INCOMPLETE: Final = "DownloadIncomplete"


async def save(
    pieces: AsyncIterator[bytes], to: Path, *, expected: int | None, force: bool
) -> tuple[int, Problem | None]:
    """Saves a file whole or not at all: a draft beside `to` takes its place once it is complete.

    Args:
        pieces: of the file.
        to: the name.
        expected: how many bytes there must be; None: any number.
        force: whether a file of that name is replaced.

    Returns:
        How many bytes there are, and why the file was not saved.

    Raises:
        OSError: it cannot be written.
    """
    handle, draft = tempfile.mkstemp(prefix=f".{to.name[:100]}.", dir=to.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            size = 0
            async for piece in pieces:
                size += len(piece)
                await asyncio.to_thread(file.write, piece)
            if expected is not None and size != expected:
                return size, Problem(
                    INCOMPLETE,
                    f"the stored file has {number(size, 'byte')}, and {expected:,} were written. "
                    f"Nothing was saved. Request a new export.",
                )
            await asyncio.to_thread(_finish, file)
        if not _put(draft, to, force=force):
            return size, Problem(INCOMPLETE, f"{to} has appeared meanwhile, and was left alone.")
    finally:
        with suppress(FileNotFoundError):
            os.unlink(draft)
    return size, None


def _finish(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())
    umask = os.umask(0)
    os.umask(umask)
    os.fchmod(file.fileno(), 0o666 & ~umask)  # as any new file; a draft is its owner's alone


def _put(draft: str, to: Path, *, force: bool) -> bool:
    """Gives the draft its name; returns False if the name was taken and is not to be replaced."""
    if not force:
        try:
            os.link(draft, to)  # fails where the name exists, which renaming would replace
            return True
        except FileExistsError:
            return False
        except OSError:  # a file system without links
            if to.exists():
                return False
    os.replace(draft, to)
    return True


def require_free(to: Path, *, force: bool) -> None:
    """Raises `typer.BadParameter` if a file cannot be saved as `to`."""
    problem = None
    if to.is_dir():
        problem = f"{to} is a folder. Name a file in it."
    elif not to.parent.is_dir():
        problem = f"there is no folder {to.parent}."
    elif not os.access(to.parent, os.W_OK):
        problem = f"the folder {to.parent} cannot be written."
    elif os.path.lexists(to) and not force:
        problem = f"{to} exists already. Choose another name, or add --force to replace it."
    if problem is not None:
        raise typer.BadParameter(problem, param_hint="--to")
