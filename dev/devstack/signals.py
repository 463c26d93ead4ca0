"""Turns signals that end a program into an orderly stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _say_nothing(times: int) -> None:
    pass


@contextmanager
def orderly_stop(say: Callable[[int], None] = _say_nothing) -> Iterator[Callable[[], bool]]:
    """Leaves the block with SystemExit(128 + n) at the first such signal, and survives the next.

    So the `with` blocks inside it can stop everything they started, even if an impatient user
    presses Ctrl-C again. It yields a function that says whether that has happened, for those that
    can hurry. Outside the main thread it does nothing: only the main thread gets signals.

    Args:
        say: called in another thread, at once, with how many signals there have been.
    """
    later: list[int] = []  # and no lock, as a handler may interrupt itself
    heard: SimpleQueue[int] = SimpleQueue()  # the one that a handler may put into

    def note(number: int, frame: FrameType | None) -> None:
        # Not SIG_IGN, which child processes would inherit.
        later.append(number)
        heard.put(1 + len(later))

    def leave(number: int, frame: FrameType | None) -> None:
        for each in ENDING:
            if not _is_ignored(each):
                signal.signal(each, note)
        heard.put(1)
        raise SystemExit(128 + number)

    def tell() -> None:
        while times := heard.get():
            say(times)

    telling = threading.Thread(target=tell, name="signals", daemon=True)
    telling.start()
    try:
        with _handled(leave):
            yield lambda: len(later) > 0
    finally:
        heard.put(0)
        telling.join()


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ignores the signals inside the block, which must be short."""
    with _handled(_ignore):
        yield


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # nohup ignores SIGHUP, and it must stay ignored.
    chosen = [each for each in ENDING if each != signal.SIGHUP or not _is_ignored(each)]
    before = {each: signal.signal(each, handler) for each in chosen}
    try:
        yield
    finally:
        for each, previous in before.items():
            signal.signal(each, previous)


def _is_ignored(number: signal.Signals) -> bool:
    return signal.getsignal(number) is signal.SIG_IGN


def _ignore(number: int, frame: FrameType | None) -> None:
    # Not SIG_IGN, which child processes would inherit.
    pass
