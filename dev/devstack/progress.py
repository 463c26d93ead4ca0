"""Says what a program does while it waits, and for how long it has waited."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TextIO

from dev.devstack.load import Load

EVERY: Final = 10.0  # seconds between two signs of life
LONG: Final = 60.0  # seconds, after which a phase on a busy machine says so


class Progress:
    """One line for each phase, such as `Starting Temporal… 10 s… 12.4 s`.

    Phases in several threads do not share a line: one that goes on after another has written
    begins its line anew. The lines go to a terminal or a file. If either is gone, nothing is
    written, and the program goes on: a closed terminal also sends a signal, which stops it in
    order.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        every: float = EVERY,
        long: float = LONG,
        load: Callable[[], Load] = Load,
    ) -> None:
        """
        Args:
            stream: where to write; standard output if not given.
            every: seconds between two signs of life in a phase.
            long: seconds, after which a phase says that the machine is busy, if it is.
            load: tells how busy it is.
        """
        self._stream = stream
        self._every = every
        self._long = long
        self._load = load
        self._lock = threading.Lock()
        self._unfinished: str | None = None  # the phase whose line is the last one, and has no end

    def say(self, text: str = "") -> None:
        """Writes whole lines; a phase goes on below them."""
        with self._lock:
            self._end_line()
            self._write(f"{text}\n")

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
            self._put("…", what)
        load = self._load()

        def tick() -> None:
            if after and over.wait(after):
                return
            if after:
                self._put("…", what)
            while not over.wait(self._every):
                seconds = time.monotonic() - began
                busy = load.was_busy() and seconds >= self._long
                self._put(f" {seconds:.0f} s{', the machine is busy' if busy else ''}…", what)

        ticking = threading.Thread(target=tick, name="progress", daemon=True)
        ticking.start()
        try:
            yield
        except BaseException:
            over.set()
            self._end("", what)
            raise
        over.set()
        if time.monotonic() - began >= after:
            self._end(f" {time.monotonic() - began:.1f} s", what)

    def _put(self, text: str, what: str) -> None:
        """Adds to the phase's unfinished line, or begins another one for it."""
        with self._lock:
            if self._unfinished != what:
                self._end_line()
                self._write(what)
            self._write(text)
            self._unfinished = what

    def _end(self, text: str, what: str) -> None:
        with self._lock:
            if self._unfinished == what:
                self._write(f"{text}\n")
                self._unfinished = None
            elif text:
                self._end_line()
                self._write(f"{what}:{text}\n")

    def _end_line(self) -> None:
        if self._unfinished is not None:
            self._write("\n")
        self._unfinished = None

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
