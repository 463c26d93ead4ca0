"""Watches the parts of a stack: says which has died, and starts it again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from dev.devstack.errors import PartMissing
from dev.devstack.progress import Progress
from temporal_tenancy.core import number, printable

LAST_LINES: Final = 10  # of a dead part's log


class Part(Protocol):
    """A server or a program of the stack."""

    @property
    def running(self) -> bool:
        """Whether it runs."""

    def start(self) -> None:
        """Starts it, and returns once it works; raises `PartMissing` if it does not."""

    def stop(self) -> None:
        """Stops it, if it runs."""

    def how_it_ended(self) -> str:
        """Returns how it has ended, such as "was killed by SIGKILL"."""

    def log_tail(self, lines: int) -> str:
        """Returns the last lines that it has written."""


@dataclass(frozen=True)
class Restarts:
    """When a part that has died is started again, and when it is given up."""

    pauses: Sequence[float] = (0.5, 1.0, 2.0, 5.0, 10.0)  # seconds; one for each try in a row
    steady: float = 30.0  # seconds that a part must run before its earlier deaths are forgotten
    look: float = 0.2  # seconds between two looks at the parts


@dataclass
class _Watched:
    """What the supervisor knows about a part."""

    name: str
    part: Part
    deaths: int = 0  # in a row
    began: float = field(default_factory=time.monotonic)  # when it last started
    due: float | None = None  # when it is started again; None: it runs, or its death is not noticed
    given_up: bool = False


class Supervisor:
    """Starts dead parts again: servers first, and programs only while every server runs.

    A program is not at fault while a server is away, so it waits until the servers are back. If a
    server comes back on another port, the programs start again with its new address.
    """

    def __init__(
        self,
        servers: Mapping[str, Part],
        programs: Mapping[str, Part],
        *,
        progress: Progress,
        addresses: Callable[[], Mapping[str, str]],
        moved: Callable[[], None],
        restarts: Restarts = Restarts(),
    ) -> None:
        """
        Args:
            servers: running, by the name that a sentence calls them, such as "PostgreSQL".
            programs: running, by name, such as "the worker".
            progress: says what happens.
            addresses: returns the servers' addresses now.
            moved: is called once they have changed.
            restarts: pauses and limits.
        """
        self._servers = [_Watched(name, part) for name, part in servers.items()]
        self._programs = [_Watched(name, part) for name, part in programs.items()]
        self._progress = progress
        self._addresses = addresses
        self._moved = moved
        self._restarts = restarts
        self._known = dict(addresses())

    @property
    def given_up(self) -> list[str]:
        """The names of the parts that are not started again."""
        return [watched.name for watched in self._all if watched.given_up]

    def run(self) -> None:
        """Watches the parts; returns once every program has been given up."""
        while not self._is_over():
            self.look()
            time.sleep(self._restarts.look)

    def look(self) -> None:
        """Looks at every part once, and starts those that are due."""
        for watched in self._all:
            self._look(watched)
        if dict(self._addresses()) != self._known:
            self._move()

    @property
    def _all(self) -> list[_Watched]:
        return [*self._servers, *self._programs]

    def _is_over(self) -> bool:
        return all(watched.given_up for watched in self._programs)

    def _look(self, watched: _Watched) -> None:
        now = time.monotonic()
        if watched.given_up:
            return
        if watched.part.running:
            if now - watched.began > self._restarts.steady:
                watched.deaths = 0
            return
        if watched.due is None:
            self._notice(watched)
        elif watched.due <= now and self._may_start(watched):
            self._start(watched)

    def _may_start(self, watched: _Watched) -> bool:
        """Whether the servers that a program needs run, or are given up."""
        if watched in self._servers:
            return True
        return all(server.part.running or server.given_up for server in self._servers)

    def _notice(self, watched: _Watched) -> None:
        how = f"{watched.part.how_it_ended()}. Its log ends:"
        self._failed(watched, how, watched.part.log_tail(LAST_LINES))

    def _start(self, watched: _Watched) -> None:
        try:
            with self._progress.phase(f"Starting {watched.name} again"):
                watched.part.start()
        except PartMissing as error:
            self._failed(watched, "was not started:", str(error))
        else:
            watched.began, watched.due = time.monotonic(), None

    def _failed(self, watched: _Watched, how: str, last_lines: str) -> None:
        watched.deaths += 1
        tries = self._restarts.pauses
        name = f"{watched.name[0].upper()}{watched.name[1:]}"
        if watched.deaths > len(tries):
            watched.given_up = True
            then = (
                f"{name} is given up after {number(len(tries), 'try', 'tries')}; "
                "the other parts go on."
            )
        else:
            pause = tries[watched.deaths - 1]
            watched.due = time.monotonic() + pause
            then = f"It starts again in {pause:g} s."
        time_of_day = time.strftime("%H:%M:%S")
        self._progress.say(f"{time_of_day} {name} {how}")
        for line in last_lines.splitlines()[-LAST_LINES:] or ["(nothing)"]:
            self._progress.say(f"    {printable(line)}")
        self._progress.say(f"  {then}")

    def _move(self) -> None:
        """Starts the programs again, with the servers' new addresses."""
        self._progress.say(
            "A server is on another port, because another program has taken its own. Everything "
            "that uses it starts again."
        )
        self._known = dict(self._addresses())
        self._moved()
        for watched in self._programs:
            if not watched.given_up:
                watched.part.stop()
                self._start(watched)
        self._known = dict(self._addresses())
