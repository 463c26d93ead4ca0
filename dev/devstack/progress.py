"""Says what a program does while it waits, and for how long it has waited."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TextIO

EVERY: Final = 10.0  # seconds between two signs of life


class Progress:
    """One line for each phase, such as `Starting Temporal… 10 s… 12.4 s`.

    The lines go to a terminal or a file. If either is gone, nothing is written, and the program
    goes on: a closed terminal also sends a signal, which stops it in order.
    """

    def __init__(self, stream: TextIO | None = None, *, every: float = EVERY) -> None:
        """
        Args:
            stream: where to write; standard output if not given.
            every: seconds between two signs of life in a phase.
        """
        self._stream = stream
        self._every = every
        self._lock = threading.Lock()
        self._unfinished = False  # whether the last line has no end yet

    def say(self, text: str = "") -> None:
        """Writes whole lines; a phase goes on below them."""
        with self._lock:
            start = "\n" if self._unfinished else ""
            self._unfinished = False
            self._write(f"{start}{text}\n")

    @contextmanager
    def phase(self, what: str, *, after: float = 0.0) -> Iterator[None]:
        """Says what happens in the block, now and then that it still does, and how long it took.

        Args:
            what: such as "Starting Temporal".
            after: seconds; nothing is said of a shorter phase.
        """
        began = time.monotonic()
        over = threading.Event()
        if not after:
            self._put(f"{what}…")

        def tick() -> None:
            if after and over.wait(after):
                return
            if after:
                self._put("…", what)
            while not over.wait(self._every):
                self._put(f" {time.monotonic() - began:.0f} s…", what)

        ticking = threading.Thread(target=tick, name="progress", daemon=True)
        ticking.start()
        try:
            yield
        except BaseException:
            over.set()
            self._end("")
            raise
        over.set()
        if time.monotonic() - began >= after:
            self._end(f" {time.monotonic() - began:.1f} s", what)

    def _put(self, text: str, what: str = "") -> None:
        """Adds to the unfinished line, or begins another one for the same phase."""
        with self._lock:
            self._write(text if self._unfinished else f"{what}{text}")
            self._unfinished = True

    def _end(self, text: str, what: str = "") -> None:
        with self._lock:
            if text or self._unfinished:
                self._write(f"{text}\n" if self._unfinished else f"{what}:{text}\n")
            self._unfinished = False

    def _write(self, text: str) -> None:
        stream = sys.stdout if self._stream is None else self._stream
        try:
            stream.write(text)
            stream.flush()
        except (OSError, ValueError):
            pass  # nobody reads it any more


class Silence(Progress):
    """Says nothing."""

    def _write(self, text: str) -> None:
        pass
