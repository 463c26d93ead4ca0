"""The garbage collector of a process that works for long."""

from __future__ import annotations

import gc
from typing import Final

YOUNG: Final = 20_000  # new objects between two looks at them; Python's own is 700 to 2,000


def spare_what_is_loaded() -> None:
    """Takes what has been loaded out of every later collection.

    Modules, classes and statements stay as long as the process does, and are most of what a full
    collection walks through: some hundred thousand objects, many times a minute under load.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG)
