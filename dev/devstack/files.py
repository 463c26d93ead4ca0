"""Files that only their owner may read, and the `export` lines that a shell sources."""

from __future__ import annotations

import itertools
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path


def write_private(path: Path, text: str) -> None:
    """Writes a file atomically; only its owner may read it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)  # half a file, on a full disk
        raise


def write_exports(
    path: Path, variables: Mapping[str, str], *, comment: str, unset: Sequence[str] = ()
) -> None:
    """Writes variables as lines that a POSIX shell sources; only the file's owner may read it.

    The lines are `# COMMENT`, then `unset NAME` for each of `unset`, then `export NAME=VALUE`, with
    the value quoted for the shell.
    """
    lines = [
        *(f"# {line}" for line in comment.splitlines()),
        *(f"unset {name}" for name in unset),
        *(f"export {name}={shlex.quote(value)}" for name, value in variables.items()),
    ]
    write_private(path, "\n".join(lines) + "\n")


def read_exports(path: Path) -> dict[str, str]:
    """Returns the variables that a file of `write_exports` exports; none without such a file."""
    try:
        text = path.read_text(errors="replace")
    except FileNotFoundError:
        return {}
    try:
        words = shlex.split(text, comments=True)
    except ValueError:
        return {}  # not a file that write_exports() writes
    assigned = [word for before, word in itertools.pairwise(words) if before == "export"]
    return dict(word.split("=", 1) for word in assigned if "=" in word)
