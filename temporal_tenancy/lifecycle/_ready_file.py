"""The file that tells others that a process is ready for work."""

from __future__ import annotations

import json
import os
from pathlib import Path


def write_ready_file(path: Path, **facts: object) -> None:
    """Writes the process id and `facts`, such as the health address, as JSON; atomically."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps({"pid": os.getpid(), **facts}) + "\n")
    draft.replace(path)
