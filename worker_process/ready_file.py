"""The file that says that a process takes work."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path


def write_ready_file(path: Path, identity: str, queues: Sequence[str], health: str) -> None:
    """Writes who takes work, from what, and where its health is told; whole, or not at all."""
    document = {
        "pid": os.getpid(),
        "identity": identity,
        "queues": list(queues),
        "health": health,
    }
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(document) + "\n")
    draft.replace(path)
