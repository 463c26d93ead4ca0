"""Says which part of a stack hangs, and that it answers again."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Protocol

from dev.devstack.load import Load
from dev.devstack.processes import OwnedProcess
from dev.devstack.progress import Progress
from dev.devstack.started import Started


class Answering(Protocol):
    """A part that answers questions while it runs."""

    @property
    def running(self) -> bool:
        """Whether its process has been started and has not ended."""

    @property
    def process(self) -> OwnedProcess | None:
        """Its process, while it runs."""

    def answers(self) -> bool:
        """Asks it something, and returns whether it answers within seconds."""


@dataclass(frozen=True)
class Deadlines:
    """When a part is asked, and when its silence is told; in seconds."""

    look: float = 1.0  # between two looks whether its process is stopped
    ask: float = 5.0  # between two questions
    silence: float = 10.0  # without an answer, before it is told; a busy machine answers late
    stuck: float = 60.0  # without an answer and without computing, before it is said to be stuck


DEADLINES: Final = Deadlines()
AT_WORK: Final = 0.02  # of a processor; what computes less than this does nothing


class HangWatch(Started):
    """Asks the parts of a stack, each in a thread of its own, while everything else goes on."""

    def __init__(self, progress: Progress, *, deadlines: Deadlines = DEADLINES) -> None:
        """`progress` says what hangs."""
        self._progress = progress
        self._deadlines = deadlines
        self._over = threading.Event()

    def start(self) -> None:
        """Does nothing: a part's thread starts when it is added."""

    def stop(self) -> None:
        """Asks no more, and says nothing more."""
        self._over.set()

    def add(self, name: str, part: Answering) -> None:
        """Watches a part; `name` is what a sentence calls it, such as "the worker"."""
        watched = _Watched(f"{name[0].upper()}{name[1:]}", part, self._deadlines)

        def watch() -> None:
            while not self._over.wait(self._deadlines.look):
                sentence = watched.look()
                if sentence is not None and not self._over.is_set():
                    self._progress.say(f"{time.strftime('%H:%M:%S')} {sentence}")

        threading.Thread(target=watch, name=f"watch {name}", daemon=True).start()


@dataclass
class _Watched:
    """What is known of a part."""

    name: str
    part: Answering
    deadlines: Deadlines
    asked: float = field(default_factory=time.monotonic)
    silent_since: float | None = None
    is_told: bool = False
    is_stuck: bool = False  # whether that it does nothing is told, too
    load: Load = field(default_factory=Load)
    still_since: float | None = None  # since when it neither answers nor computes
    computed: float = 0.0  # seconds, until then

    def look(self) -> str | None:
        """Looks at it once, and returns what is to be said."""
        process = self.part.process if self.part.running else None
        if process is None:
            self._forget()
            return None
        if process.is_stopped:
            self.still_since = None
            return self._tell(
                0.0,
                f"{self.name} hangs: its process {process.pid} is stopped. "
                f'"kill -CONT {process.pid}" lets it go on.',
            )
        if not self.is_told and time.monotonic() - self.asked < self.deadlines.ask:
            return None
        self.asked = time.monotonic()
        if not self._answers():
            return self._tell_silence(process)
        began, told = self.silent_since, self.is_told
        self._forget()
        if told and began is not None:
            return f"{self.name} answers again, after {time.monotonic() - began:.0f} s."
        return None

    def _forget(self) -> None:
        self.silent_since, self.is_told = None, False
        self.still_since, self.is_stuck = None, False

    def _tell_silence(self, process: OwnedProcess) -> str | None:
        """Returns what to say of one that runs and does not answer: it is slow, or it is stuck."""
        now, computed, was_busy = time.monotonic(), process.computed(), self.load.was_busy()
        since = now if self.still_since is None else self.still_since
        at_work = computed - self.computed > AT_WORK * (now - since)
        if self.still_since is None or at_work or was_busy:
            self.still_since, self.computed, since = now, computed, now
        because = " The machine is busy." if was_busy else " It computes." if at_work else ""
        told = self._tell(
            self.deadlines.silence,
            f"{self.name} does not answer, although its process {process.pid} runs.{because} It "
            "may only be slow.",
        )
        if told or self.is_stuck or now - since < self.deadlines.stuck:
            return told
        self.is_stuck = True
        return (
            f"{self.name} has neither answered nor computed for {now - since:.0f} s. "
            f'"kill -9 {process.pid}" makes it start again.'
        )

    def _tell(self, after: float, sentence: str) -> str | None:
        """Returns the sentence, once, when it has been silent for `after` seconds."""
        if self.silent_since is None:
            self.silent_since = time.monotonic()
        if self.is_told or time.monotonic() - self.silent_since < after:
            return None
        self.is_told = True
        return sentence

    def _answers(self) -> bool:
        # Somebody may stop it or start it again at this moment: then there is nothing to tell.
        with suppress(Exception):
            return self.part.answers()
        return True
