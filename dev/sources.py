"""The project's source files: which of them have changed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

# Folders of which no program of the stack imports anything.
NOT_IMPORTED: Final = ("benchmarks", "build", "dev", "dist", "docs", "monitoring", "tests")

Snapshot = Mapping[Path, tuple[int, int]]  # when a file was written, in ns, and its size


class Sources:
    """The `.py` files in a folder that its programs could import."""

    def __init__(self, root: Path) -> None:
        """`root` is the folder on the programs' path."""
        self._root = root

    def snapshot(self) -> Snapshot:
        """Returns how the files are now, by their path in the folder."""
        return dict(self._files(self._root))

    def changed_since(self, before: Snapshot) -> list[Path]:
        """Returns the files that have been written, added or deleted since, by path."""
        now = self.snapshot()
        return sorted(path for path in {*before, *now} if before.get(path) != now.get(path))

    def _files(self, folder: Path) -> Iterator[tuple[Path, tuple[int, int]]]:
        try:
            entries = list(os.scandir(folder))
        except OSError:
            return  # it has just been deleted
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if self._may_be_imported(entry.name, folder):
                    yield from self._files(Path(entry.path))
            elif entry.name.endswith(".py"):
                try:
                    found = entry.stat()
                except OSError:
                    continue
                path = Path(entry.path).relative_to(self._root)
                yield path, (found.st_mtime_ns, found.st_size)

    def _may_be_imported(self, name: str, folder: Path) -> bool:
        if folder == self._root and name in NOT_IMPORTED:
            return False
        return name.isidentifier() and name != "__pycache__"
