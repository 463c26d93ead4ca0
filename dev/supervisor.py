"""Watches the parts of a stack: says which has died, and starts it again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar

from dev.devstack.errors import PartMissing
from dev.devstack.last_words import READ_LINES, last_words
from dev.devstack.progress import Progress
from dev.devstack.stack import SLOW_STOP
from dev.local_saas import HERE, CodeMistake
from dev.sources import Snapshot, Sources
from dev.starts import begin
from temporal_tenancy.core import number, printable

SHOWN_FILES: Final = 2  # that have changed, by name


class Part(Protocol):
    """A server or a program of the stack."""

    @property
    def running(self) -> bool:
        """Whether it runs."""

    def start(self) -> None:
        """Starts it, and returns once it works.

        Raises `PartMissing` if it does not, and `CodeMistake` if it cannot until its code changes.
        """

    def stop(self) -> None:
        """Stops it, if it runs."""

    def how_it_ended(self) -> str:
        """Returns how it has ended, such as "was killed by SIGKILL"."""

    def log_tail(self, lines: int) -> str:
        """Returns the last lines that it has written."""


class Program(Part, Protocol):
    """A program, which uses the servers."""

    @property
    def has_old_addresses(self) -> bool:
        """Whether an address of the stack has changed since it was started."""


@dataclass(frozen=True)
class Restarts:
    """When a part that has died is started again, and when it is given up; in seconds."""

    pauses: Sequence[float] = (0.5, 1.0, 2.0, 5.0, 10.0)  # one for each try in a row
    rest: float = 30.0  # between two tries of a server after that
    steady: float = 30.0  # that a part must run before its earlier deaths are forgotten
    look: float = 0.2  # between two looks at the parts
    reread: float = 1.0  # between two looks at the sources, while a program waits for them


_Kind = TypeVar("_Kind", bound=Part)


@dataclass(eq=False)
class _Watched(Generic[_Kind]):
    """What the supervisor knows about a part."""

    name: str
    part: _Kind
    code: Snapshot  # the sources when it was last started
    deaths: int = 0  # in a row
    began: float = field(default_factory=time.monotonic)  # when it last started
    due: float | None = None  # when it is started again; None: it runs, or its death is not noticed
    given_up: bool = False
    is_changed: bool = False  # whether its code was changed before it last started
    starting: Future[None] | None = None  # a start that is under way

    @property
    def title(self) -> str:
        """Its name at the beginning of a sentence."""
        return f"{self.name[0].upper()}{self.name[1:]}"


class Supervisor:
    """Starts dead parts again: servers first, and programs only while every server runs.

    Programs start at the same time: none waits until another one is ready. A program is not at
    fault while a server is away, so it waits until the servers are back. If a server comes back on
    another port, the programs start again with its new address. A program is given up after some
    tries, or at once if its code is wrong, until a source file changes or a server has been started
    again. A server is never given up.
    """

    def __init__(
        self,
        servers: Mapping[str, Part],
        programs: Mapping[str, Program],
        *,
        progress: Progress,
        addresses: Callable[[], Mapping[str, str]],
        moved: Callable[[], None],
        sources: Sources,
        mended: Callable[[], None] = lambda: None,
        code: Snapshot | None = None,
        restarts: Restarts = Restarts(),
    ) -> None:
        """
        Args:
            servers: running, by the name that a sentence calls them, such as "PostgreSQL".
            programs: by name, such as "the worker"; one that does not run is given up.
            progress: says what happens.
            addresses: returns the servers' addresses now.
            moved: is called once they have changed.
            sources: of the programs.
            mended: is called once the programs have started whose code was changed.
            code: the sources when the programs were started; as they are now if not given.
            restarts: pauses and limits.
        """
        code = sources.snapshot() if code is None else code
        self._servers = [_Watched(name, part, code) for name, part in servers.items()]
        self._programs = [_Watched(name, part, code) for name, part in programs.items()]
        self._progress = progress
        self._addresses = addresses
        self._moved = moved
        self._sources = sources
        self._mended = mended
        self._restarts = restarts
        self._known = dict(addresses())
        self._reread = 0.0  # when the sources are read again
        self._has_mended = False  # whether a program has started whose code was changed

    def await_change(self, name: str) -> None:
        """Notes that a program did not start, because its code is wrong."""
        for watched in self._programs:
            if watched.name == name:
                watched.given_up = True

    @property
    def given_up(self) -> list[str]:
        """The names of the programs that wait for a change."""
        return [watched.name for watched in self._programs if watched.given_up]

    def run(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Watches the parts until a signal ends the process.

        Args:
            meanwhile: is called after each look.
        """
        while True:
            self.look()
            meanwhile()
            time.sleep(self._restarts.look)

    def look(self) -> None:
        """Looks at every part once, and starts those that are due."""
        for watched in self._all:
            self._look(watched)
        self._look_at_sources()
        if any(watched.starting for watched in self._programs):
            return
        if self._has_mended:
            self._has_mended = False
            self._mended()
        if dict(self._addresses()) != self._known:
            self._move()

    @property
    def _all(self) -> list[_Watched[Any]]:
        return [*self._servers, *self._programs]

    def _look(self, watched: _Watched[Any]) -> None:
        now = time.monotonic()
        if watched.starting is not None:
            if watched.starting.done():
                self._finish(watched, watched.starting.result)
            return
        if watched.given_up:
            return
        if watched.part.running:
            if now - watched.began > self._restarts.steady:
                watched.deaths = 0
            return
        if watched.due is None:
            self._notice(watched)
        elif watched.due <= now and not self._away(watched):
            self._start(watched)

    def _away(self, watched: _Watched[Any]) -> list[str]:
        """Returns the servers that a program needs and that do not run; none for a server."""
        if watched in self._servers:
            return []
        return [server.name for server in self._servers if not server.part.running]

    def _look_at_sources(self) -> None:
        waiting = [
            each
            for each in self._programs
            if (each.given_up or each.due is not None) and each.starting is None
        ]
        if not waiting or time.monotonic() < self._reread:
            return
        self._reread = time.monotonic() + self._restarts.reread
        changes = {
            watched.name: self._sources.changed_since(watched.code)
            for watched in waiting
            if not self._away(watched)
        }
        for files in dict.fromkeys(_listed(files) for files in changes.values() if files):
            self._progress.say(f"{_now()} {files} changed.")
        for watched in waiting:
            if changes.get(watched.name):
                self._revive(watched)

    def _revive(self, watched: _Watched[Any]) -> None:
        """Starts a program as if it had not died before."""
        watched.given_up, watched.deaths, watched.is_changed = False, 0, True
        self._start(watched)

    def _notice(self, watched: _Watched[Any]) -> None:
        how = watched.part.how_it_ended()
        if away := self._away(watched):
            self._wait_for_servers(watched, how, away)
        else:
            words = last_words(watched.part.log_tail(READ_LINES), HERE)
            self._failed(watched, f"{how}. Its log ends:", words)
        if not watched.given_up:
            watched.code = self._sources.snapshot()  # the next start has all changes until now

    def _wait_for_servers(self, watched: _Watched[Any], how: str, away: Sequence[str]) -> None:
        run = "runs" if len(away) == 1 else "run"
        self._progress.say(
            f"{_now()} {watched.title} {how}. It starts again once {' and '.join(away)} {run}."
        )
        watched.due = time.monotonic()

    def _start(self, watched: _Watched[Any]) -> None:
        """Starts a server, or begins to start a program."""
        watched.code = self._sources.snapshot()

        def start() -> None:
            with self._progress.phase(f"Starting {watched.name} again"):
                watched.part.start()

        if watched in self._servers:  # the programs wait for it anyway
            self._finish(watched, start)
        else:
            watched.starting = begin(start, watched.name)

    def _finish(self, watched: _Watched[Any], outcome: Callable[[], object]) -> None:
        """Notes how the start of a part has gone; `outcome` raises why it has failed."""
        watched.starting = None
        try:
            outcome()
        except CodeMistake as error:
            watched.given_up = True
            self._progress.say(f"{_now()} {mistake(watched.name, error)}")
        except PartMissing as error:
            if away := self._away(watched):
                self._wait_for_servers(watched, "was not started", away)
                return
            first, *rest = str(error).splitlines() or [""]
            words = last_words("\n".join(rest), HERE)
            self._failed(watched, "was not started:", [first, *words])
        except Exception as error:  # a full disk, say; the other parts must go on
            self._failed(watched, "was not started:", [f"{type(error).__name__}: {error}"])
        else:
            watched.began, watched.due = time.monotonic(), None
            self._has_mended = self._has_mended or watched.is_changed
            watched.is_changed = False
            if watched in self._servers:
                self._revive_given_up()

    def _revive_given_up(self) -> None:
        """Gives programs another try, which may have died because the server was away."""
        for watched in self._programs:
            if watched.given_up and not self._away(watched):
                self._revive(watched)

    def _failed(self, watched: _Watched[Any], how: str, last_lines: Sequence[str]) -> None:
        watched.deaths += 1
        tries = self._restarts.pauses
        tried = number(len(tries), "try", "tries")
        pause = self._restarts.rest
        if watched.deaths <= len(tries):
            pause = tries[watched.deaths - 1]
            then = f"It starts again in {pause:g} s."
        elif watched in self._servers:
            then = f"It is tried again every {pause:g} s; the other parts go on."
        else:
            watched.given_up = True
            then = (
                f"{watched.title} is given up after {tried}; the other parts go on. It starts "
                "again as soon as a source file changes."
            )
        watched.due = time.monotonic() + pause
        self._progress.say(f"{_now()} {watched.title} {how}")
        for line in last_lines or ["(nothing)"]:
            self._progress.say(f"    {printable(line)}")
        self._progress.say(f"  {then}")

    def _move(self) -> None:
        """Starts programs again, with the new addresses that they do not have."""
        self._known = dict(self._addresses())
        try:
            self._moved()
        except OSError as error:
            self._progress.say(f"The new addresses were not written: {printable(str(error))}")
        going_on = [
            watched
            for watched in self._programs
            if not watched.given_up and watched.part.has_old_addresses
        ]
        if going_on:
            self._progress.say(
                "A server is on another port, because another program has taken its own. What uses "
                "it starts again."
            )
        for watched in going_on:
            with self._progress.phase(f"Stopping {watched.name}", after=SLOW_STOP):
                watched.part.stop()
        for watched in going_on:
            self._start(watched)


def mistake(name: str, error: CodeMistake) -> str:
    """Returns what to say when a program does not start because its code is wrong."""
    return (
        f"{name[0].upper()}{name[1:]} did not start: {printable(str(error.error))}\n"
        "  It starts again as soon as a source file changes; the other parts go on."
    )


def _listed(files: Sequence[Path]) -> str:
    shown = [str(file) for file in files[:SHOWN_FILES]]
    if len(files) > SHOWN_FILES:
        shown.append(number(len(files) - SHOWN_FILES, "other file"))
    return printable(" and ".join(shown))


def _now() -> str:
    return time.strftime("%H:%M:%S")
