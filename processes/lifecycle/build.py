"""The build id of a worker's code, which workflow histories record, and the release's digest."""

from __future__ import annotations

import functools
import hashlib
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
LOCK: Final = ROOT / "uv.lock"
PACKAGES: Final = ("temporal_tenancy", "saas", "activities", "workflows", "processes")


def build_id() -> str:
    """Returns a digest of the application's imported modules and its locked dependencies.

    The SDK's default hashes the byte code of every imported module, which takes seconds at each
    start.
    """
    digest = hashlib.sha256()
    for path in sorted({*_own_modules(), LOCK}):
        digest.update(path.read_bytes() if path.exists() else b"")
    return digest.hexdigest()[:16]


@functools.cache
def release() -> str:
    """Returns a digest of all of the release's code: the same in each process that runs it."""
    digest = hashlib.sha256()
    for folder in PACKAGES:
        for path in sorted((ROOT / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    digest.update(LOCK.read_bytes() if LOCK.exists() else b"")
    return digest.hexdigest()[:16]


def _own_modules() -> set[Path]:
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    paths = {Path(file) for file in files if file}
    return {
        path for path in paths if path.is_relative_to(ROOT) and "site-packages" not in path.parts
    }
