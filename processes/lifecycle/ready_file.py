"""The file that says that a process takes work."""

from __future__ import annotations

import json
import os
from pathlib import Path


def write_ready_file(path: Path, **facts: object) -> None:
    """Writes the process's id and `facts` (JSON), such as its health's address; whole, or not."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps({"pid": os.getpid(), **facts}) + "\n")
    draft.replace(path)
