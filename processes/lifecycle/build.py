"""The version of the code, which each process says in Temporal, metrics, logs and its row."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import Final

from saas.settings import Settings

ROOT: Final = Path(__file__).parents[2]
LOCK: Final = ROOT / "uv.lock"
PACKAGES: Final = ("temporal_tenancy", "saas", "activities", "workflows", "processes")


def version_of(settings: Settings) -> str:
    """Returns the version of this process's code: WORKER_BUILD_ID, or else a digest."""
    return settings.worker_build_id or code_digest()


@functools.cache
def code_digest() -> str:
    """Returns a digest of all code and of the locked packages: the same in each process.

    The SDK's own hashes the byte code of every imported module, which takes seconds at each start,
    and differs between a worker and the HTTP door.
    """
    digest = hashlib.sha256()
    for folder in PACKAGES:
        for path in sorted((ROOT / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    digest.update(LOCK.read_bytes() if LOCK.exists() else b"")
    return digest.hexdigest()[:16]
