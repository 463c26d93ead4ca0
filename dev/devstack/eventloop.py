"""Runs coroutines from synchronous code."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def run(function: Callable[[], Coroutine[object, object, T]]) -> T:
    """Runs a coroutine on its own thread and loop, because the caller's thread may have one."""
    result: Future[T] = Future()

    def work() -> None:
        try:
            result.set_result(asyncio.run(function()))
        except BaseException as error:
            result.set_exception(error)

    # A daemon, so that an interrupted caller does not wait for it at exit.
    threading.Thread(target=work, name="devstack-loop", daemon=True).start()
    return result.result()
