"""Starts parts of a stack at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future


def begin(start: Callable[[], None], name: str) -> Future[None]:
    """Calls `start` in a thread of its own; the future has what it raised.

    The end of this process does not wait for the thread, unlike for a pool's.
    """
    started: Future[None] = Future()

    def work() -> None:
        try:
            start()
        except BaseException as error:
            started.set_exception(error)
        else:
            started.set_result(None)

    threading.Thread(target=work, name=f"start {name}", daemon=True).start()
    return started
