"""The program whose commands these are, and the application that they work on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from temporal_tenancy.cli._hints import Hints

if TYPE_CHECKING:
    from temporalio.client import Client

    from temporal_tenancy.core.migration_environment import MigrationEnvironment
    from temporal_tenancy.postgres.database import Database
    from temporal_tenancy.ticks.schedules import ScheduledJob


@dataclass(frozen=True)
class Login:
    """A role's way into the database."""

    setting: str  # where a person sets its URL, such as a variable's name
    url: str | None = field(default=None, repr=False)  # None: it is not set


@dataclass(frozen=True, kw_only=True)
class Application:
    """What the commands work on. The jobs are those in the registry once this is made."""

    connect: Callable[[Database | None], Awaitable[Client]]
    """Connects to Temporal with the application's plugin on, whose directory and sessions are on
    the database. Raises `NotReachable` where the server does not answer: connect inside
    `reaching(connecting=True)`."""
    database: Callable[[], Database]
    """Makes the engines of the runtime roles. Raises `NotReachable` where their URLs are missing.
    """
    tenant: Login
    platform: Login
    relay: Login  # may be without a URL where no relay runs
    owner: Login  # may be without a URL but for `migrate`
    reaching: Callable[[], AbstractContextManager[None]] = field(
        default_factory=lambda: _reaching()
    )
    """Raises `NotReachable` for whatever fails in the block because a server is away: `reaching`,
    or the same with the application's advice."""
    schedules: Sequence[ScheduledJob] = ()
    queues: Sequence[str] = ()  # that workers have to serve
    environments: Sequence[MigrationEnvironment] = ()  # of the application's own migrations
    ui_url: str | None = None  # of Temporal's Web UI; None: runs are shown without a link
    worker: str | None = None  # a command that serves "{queue}", for people
    how_to_start: str = ""  # a sentence, after a setting that is missing
    failures: Mapping[type[Exception], int] = field(default_factory=dict)
    """Exit codes of the application's own errors, each of which has a `message`."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """The command line as its help and its sentences speak of it.

    The application is loaded for the first command that works on it, so that help is there at once.
    """

    load: Callable[[], Application]
    hints: Hints = field(default_factory=lambda: Hints("tenancy"))
    schedules: str = "the application's list"  # what declares them
    owner: str = "the application"  # what names the owner's URL

    @property
    def name(self) -> str:
        """How a person calls it."""
        return self.hints.program

    @property
    def application_name(self) -> str:
        """What PostgreSQL calls its connections."""
        return PurePath(self.name).stem

    @cached_property
    def application(self) -> Application:
        """The application; raises what `load` does."""
        return self.load()

    @property
    def loaded(self) -> Application | None:
        """The application; None: nothing has asked for it yet."""
        return vars(self).get("application")


def _reaching() -> Callable[[], AbstractContextManager[None]]:
    # Imported here: the SDK comes with it, and help does without.
    from temporal_tenancy.cli._not_reachable import reaching

    return reaching


_program: Final[ContextVar[Program]] = ContextVar("program")


@contextmanager
def use_program(program: Program) -> Iterator[None]:
    """Runs the block's commands for `program`."""
    token = _program.set(program)
    try:
        yield
    finally:
        _program.reset(token)


def current_program() -> Program:
    """The program that runs; raises `ConfigurationError` outside one."""
    try:
        return _program.get()
    except LookupError:
        # Imported here: the SDK comes with it, and help does without.
        from temporal_tenancy.core.errors import ConfigurationError

        raise ConfigurationError(
            "no program is told whose commands these are. Call them inside use_program()."
        ) from None


def current_application() -> Application:
    """What the program works on; raises as `current_program`, and what its loading raises."""
    return current_program().application


def with_hint(sentence: str) -> str:
    """`TenantUnknown: there is no tenant x. …`, and what to run next where a command helps."""
    return current_program().hints.sentence(sentence)


def message_with_hint(kind: str, message: str) -> str:
    """An error's message, by the error's type, and what to run next where a command helps."""
    return current_program().hints.message(kind, message)


def quoted(command: str) -> str:
    """A command of this program as a sentence names it, in quotation marks."""
    return f'"{current_program().name} {command}"'
