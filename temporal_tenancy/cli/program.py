"""The program that the commands belong to, and its application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from temporal_tenancy.cli._hints import Hints
from temporal_tenancy.postgres.installation import Installation

if TYPE_CHECKING:
    from temporalio.client import Client

    from temporal_tenancy.core.migration_environment import MigrationEnvironment
    from temporal_tenancy.postgres.database import Database
    from temporal_tenancy.ticks.schedules import ScheduledJob


@dataclass(frozen=True)
class Login:
    """A role's login to the database."""

    setting: str  # where a person sets its URL, such as a variable's name
    url: str | None = field(default=None, repr=False)  # None: not set


@dataclass(frozen=True, kw_only=True)
class Application:
    """The application that the commands work on. Making it registers its jobs."""

    connect: Callable[[Database | None], Awaitable[Client]]
    """Connects to Temporal with the application's plugin, whose directory and sessions use the
    database. Raises `NotReachable` if the server does not answer: connect inside
    `reaching(connecting=True)`."""
    database: Callable[[], Database]
    """Creates the engines of the runtime roles. Raises `NotReachable` if a URL is missing."""
    tenant: Login
    platform: Login
    relay: Login  # needs a URL only where a relay runs
    owner: Login  # needs a URL only for `migrate`
    reaching: Callable[[], AbstractContextManager[None]] = field(
        default_factory=lambda: _reaching()
    )
    """Raises `NotReachable` for errors in the block that mean that a server is unavailable:
    `reaching`, or the same with the application's advice."""
    schedules: Sequence[ScheduledJob] = ()
    installation: Installation = field(default_factory=Installation)
    """Where the library lives in the database."""
    queues: Sequence[str] = ()  # that workers must serve
    environments: Sequence[MigrationEnvironment] = ()  # of the application's own migrations
    ui_url: str | None = None  # of Temporal's Web UI; None: no links
    worker: str | None = None  # the command that starts a worker for "{queue}"
    how_to_start: str = ""  # a sentence that follows a missing setting
    failures: Mapping[type[Exception], int] = field(default_factory=dict)
    """Exit codes of the application's own errors, which have a `message`."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """The command line: its name, its hints, and how to load its application.

    The application loads for the first command that needs it, so that help appears at once.
    """

    load: Callable[[], Application]
    hints: Hints = field(default_factory=lambda: Hints("tenancy"))
    schedules: str = "the application's list"  # where the schedules are declared
    owner: str = "the application"  # where the owner's URL is set

    @property
    def name(self) -> str:
        """The name of the command."""
        return self.hints.program

    @property
    def application_name(self) -> str:
        """The application name of its PostgreSQL connections."""
        return PurePath(self.name).stem

    @cached_property
    def application(self) -> Application:
        """The application; raises the errors of `load`."""
        return self.load()

    @property
    def loaded(self) -> Application | None:
        """The application, or None before it is loaded."""
        return vars(self).get("application")


def _reaching() -> Callable[[], AbstractContextManager[None]]:
    # Imported here: it loads the SDK, which help does not need.
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
    """Returns the current program; raises `ConfigurationError` outside `use_program`."""
    try:
        return _program.get()
    except LookupError:
        # Imported here: it loads the SDK, which help does not need.
        from temporal_tenancy.core.errors import ConfigurationError

        raise ConfigurationError(
            "no program is set for these commands. Call them inside use_program()."
        ) from None


def current_application() -> Application:
    """Returns the current application; raises the errors of `current_program` and of `load`."""
    return current_program().application


def with_hint(sentence: str) -> str:
    """Adds a hint, if a command helps, to `TenantUnknown: there is no tenant x. …`."""
    return current_program().hints.sentence(sentence)


def message_with_hint(kind: str, message: str) -> str:
    """Adds a hint, if a command helps, to the message of an error of the type `kind`."""
    return current_program().hints.message(kind, message)


def quoted(command: str) -> str:
    """Returns a command of this program in quotation marks."""
    return f'"{current_program().name} {command}"'
