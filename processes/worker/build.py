"""What code a worker runs, in one word that its runs' histories keep."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
LOCK: Final = ROOT / "uv.lock"


def build_id() -> str:
    """A digest of the application's imported modules, and of the versions it depends on.

    The SDK's default reads the byte code of everything that is imported: seconds at each start.
    """
    digest = hashlib.sha256()
    for path in sorted({*_own_modules(), LOCK}):
        digest.update(path.read_bytes() if path.exists() else b"")
    return digest.hexdigest()[:16]


def _own_modules() -> set[Path]:
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    paths = {Path(file) for file in files if file}
    return {
        path for path in paths if path.is_relative_to(ROOT) and "site-packages" not in path.parts
    }
