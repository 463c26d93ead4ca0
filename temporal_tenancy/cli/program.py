"""The program that the commands belong to, and its application."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

from temporal_tenancy.cli._hints import Hints
from temporal_tenancy.cli._temporal_variables import TEMPORAL_VARIABLES
from temporal_tenancy.core.spelling import spelled

if TYPE_CHECKING:
    from temporalio.client import Client

    from temporal_tenancy.core.directory import TenantDirectory
    from temporal_tenancy.core.migration_environment import MigrationEnvironment
    from temporal_tenancy.dead_letters.alerts import AlertSink
    from temporal_tenancy.lifecycle import Scrape
    from temporal_tenancy.postgres.database import Database
    from temporal_tenancy.postgres.installation import Installation
    from temporal_tenancy.sdk.features import Feature
    from temporal_tenancy.sdk.plugin import TenancyPluginBase
    from temporal_tenancy.stores.placement import PlacementPolicy
    from temporal_tenancy.stores.secrets import WritableConnectionSecrets
    from temporal_tenancy.ticks.schedules import ScheduledJob

DEFAULT_WORKER: Final = "{program} worker --queue {queue}"
DEFAULT_RELAY: Final = "{program} relay"


@spelled
@dataclass(frozen=True)
class Login:
    """A role's login to the database."""

    setting: str  # where a person sets its URL, such as a variable's name
    url: str | None = field(default=None, repr=False)  # None: not set
    needed: bool = True  # whether `migrate` refuses to do without the URL
    how: str = ""  # a sentence: how to set the URL; empty: the application's `how_to_start`


@spelled
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
    schedules: Sequence[ScheduledJob] | Callable[[], Sequence[ScheduledJob]] = ()
    """The application's own, or a function that imports them when a command asks for them. Those
    that its features bring are added."""
    features: Sequence[Feature] | None = None  # of its plugin; None: all of the library's
    directory: Callable[[Database], TenantDirectory] | None = None
    """Returns the directory of its plugin; None: the library's own table."""
    installation: Installation = field(default_factory=lambda: _installation())
    """Where the library lives in the database."""
    queues: Sequence[str] = ()  # that workers must serve
    workflows: Sequence[type] | None = None
    """Those of its workers; None: each job that importing the application has registered."""
    activities: Sequence[Callable[..., Any]] | None = None
    """Those of its workers; None: each declared function of a module that was imported."""
    redis: Login | None = None  # of what its processes share; `doctor` asks whether it answers
    alerts: Sequence[AlertSink] = ()  # where its relays send alerts, besides the log
    relay_listens: Login | None = None  # past a pooler, where the relay's URL is of one
    environments: Sequence[MigrationEnvironment] = ()  # of the application's own migrations
    ui_url: str | None = None  # of Temporal's Web UI; None: no links
    metrics_token: str | None = field(default=None, repr=False)
    """What a scrape of its workers and relays needs; None: nothing."""
    configuration: object = None
    """What its processes are configured with besides the logins and Temporal's address: anything
    that JSON can hold. They publish a digest, by which `doctor` finds those that are older."""
    worker: str | None = None  # the command that starts a worker for "{queue}"
    start_relay: str | None = None  # the command that starts a relay
    connections: WritableConnectionSecrets | None = None
    """The secret store with the connections of tenants' own databases; None: there are none."""
    placement: PlacementPolicy | None = None
    """Which store a new tenant gets; None: the shared one, unless a command says otherwise."""
    shared_tables: Mapping[str, str] = field(default_factory=dict)
    """The tables without a tenant's column that the tenants' role may use, each with the reason why
    every tenant may; `doctor` shows them as acknowledged."""
    how_to_start: str = ""  # a sentence that follows a missing setting
    failures: Mapping[type[Exception], int] | Callable[[], Mapping[type[Exception], int]] = field(
        default_factory=dict
    )
    """Exit codes of the application's own errors, which have a `message`; or a function that
    imports them after a command has failed."""

    @classmethod
    def from_environment(
        cls,
        plugin: Callable[[Database], TenancyPluginBase],
        *,
        tenant: str,
        platform: str,
        relay: str | None = None,
        relay_listens: str | None = None,
        owner: str | None = None,
        ui: str | None = None,
        metrics_token: str | None = None,
        schedules: Sequence[ScheduledJob] = (),
        queues: Sequence[str] = (),
        workflows: Sequence[type] | None = None,
        activities: Sequence[Callable[..., Any]] | None = None,
        migrations: Sequence[MigrationEnvironment] = (),
        installation: Installation | None = None,
        worker: str | None = DEFAULT_WORKER,
        start_relay: str | None = DEFAULT_RELAY,
        alerts: Sequence[AlertSink] = (),
        configuration: object = None,
        connections: str | None = None,
        placement: PlacementPolicy | None = None,
        shared_tables: Mapping[str, str] | None = None,
    ) -> Application:
        """Makes the application from environment variables, whose names the arguments give.

        Temporal's address, namespace and credentials come from the variables and the profile that
        `temporalio.envconfig` reads, such as `TEMPORAL_ADDRESS`.

        Args:
            plugin: makes the plugin of the application's clients and workers. It is called once
                now, for the features, and then for each connection; it must not connect itself.
            tenant: the variable with the URL of the tenants' role.
            platform: the variable with the URL of the platform's role.
            relay: the variable with the URL of the relay's role; `outbox list` reads as it.
            relay_listens: the variable with the URL of the same role at the server itself, where
                the one in `relay` names a pooler, which forwards no notifications.
            owner: the variable with the URL of the database's owner; `migrate` needs it.
            ui: the variable with the address of Temporal's Web UI, for links.
            metrics_token: the variable with the token that a scrape of workers and relays needs.
                Without one, whoever reaches their health ports may scrape them.
            schedules: the application's own schedules.
            queues: the task queues that workers must serve; `doctor` checks them. Without any,
                `worker` serves those of all jobs.
            workflows: those of the application's workers; None: each job that importing it has
                registered.
            activities: those of its workers; None: each function of an imported module that
                `@tenant_activity` or `@platform_activity` declares. Bound methods must be listed.
            migrations: the environments of the application's own tables, which `migrate` also runs.
            installation: the library's schema and roles; None: the defaults.
            worker: the command that starts a worker, with `{queue}` for its queue and
                `{program}` for the name of this command; hints show it.
            start_relay: the command that starts a relay, likewise.
            alerts: where its relays send alerts, besides the log.
            configuration: what its processes are configured with besides these variables, such as
                your settings as a dictionary: anything that JSON can hold. `doctor` names a
                process that has another one than those that were started later.
            connections: the variable with `file:///folder`, the folder with the connections of
                tenants' own databases.
            placement: which store a new tenant gets; None: the shared one.
            shared_tables: the tables without a tenant's column that the tenants' role may use, such
                as `{"shop.airports": "public reference data"}`: `doctor` does not warn of them.

        Raises:
            ConfigurationError: a variable is not a PostgreSQL URL or looks misspelled, the plugin
                is misconfigured, or a shared table has no reason.
        """
        # Imported here: they load the SDK, which help does not need.
        from temporal_tenancy.cli._environment import (
            Connections,
            connection_secrets,
            login,
            reaching,
        )
        from temporal_tenancy.core.migration_environment import LIBRARY
        from temporal_tenancy.core.nearest import refuse_misspelled

        named = (tenant, platform, relay, relay_listens, owner, ui, metrics_token, connections)
        known = [each for each in named if each is not None]
        refuse_misspelled([*known, *TEMPORAL_VARIABLES], os.environ)
        logins = login(tenant, "the tenants' role"), login(platform, "the platform's role")
        installation = installation or _installation()
        secrets = connection_secrets(connections)
        servers = Connections(plugin, *logins, installation, secrets)
        made = servers.plugin()
        return cls(
            connect=servers.connect,
            database=servers.database,
            tenant=logins[0],
            platform=logins[1],
            relay=login(relay, "the relay's role"),
            relay_listens=login(relay_listens, "the relay's role") if relay_listens else None,
            owner=login(owner, "the database's owner"),
            reaching=reaching,
            schedules=schedules,
            features=made.features,
            directory=servers.directory,
            installation=installation,
            queues=queues,
            workflows=workflows,
            activities=activities,
            alerts=alerts,
            environments=[
                each
                for each in dict.fromkeys((*made.migrations, *migrations))
                if each not in LIBRARY
            ],
            ui_url=os.environ.get(ui) or None if ui else None,
            metrics_token=os.environ.get(metrics_token) or None if metrics_token else None,
            worker=worker,
            configuration=configuration,
            start_relay=start_relay,
            connections=secrets,
            placement=placement,
            shared_tables=shared_tables or {},
        )

    def __post_init__(self) -> None:
        for table, reason in self.shared_tables.items():
            if not (isinstance(reason, str) and reason.strip()):
                from temporal_tenancy.core.errors import ConfigurationError

                raise ConfigurationError(
                    f"the shared table {table} has no reason. Say in a few words why every tenant "
                    "may use it."
                )

    @cached_property
    def every_schedule(self) -> Sequence[ScheduledJob]:
        """The application's schedules, then those that its features bring."""
        from temporal_tenancy.ticks.schedules import with_those_of

        own = self.schedules() if callable(self.schedules) else self.schedules
        return with_those_of(own, self._features)

    @cached_property
    def platform_schedules(self) -> Sequence[ScheduledJob]:
        """The schedules of the platform jobs that its features bring."""
        jobs = {schedule.job for feature in self._features for schedule in feature.schedules}
        return [scheduled for scheduled in self.every_schedule if scheduled.job in jobs]

    @property
    def has_outbox(self) -> bool:
        """Whether its plugin has the outbox, whose feature answers a doctor's probe."""
        return any(feature.name == "outbox" for feature in self._features)

    @cached_property
    def has_own_directory(self) -> bool:
        """Whether its tenants are elsewhere than in the library's own table."""
        from temporal_tenancy.control_plane.directory import ControlPlaneDirectory

        if self.directory is None:
            return False
        # The application's code may raise anything, and this only chooses words.
        with suppress(Exception):
            return not isinstance(self.directory(self.database()), ControlPlaneDirectory)
        return False

    @property
    def scrape(self) -> Scrape | None:
        """What its workers and relays answer `/metrics` with; None if its plugin has no metrics."""
        from temporal_tenancy.lifecycle import Scrape
        from temporal_tenancy.sdk.features import exposition

        exposes = exposition(self._features)
        return None if exposes is None else Scrape(exposes, self.metrics_token)

    @cached_property
    def _features(self) -> Sequence[Feature]:
        from temporal_tenancy.everything import everything

        return everything() if self.features is None else self.features

    def tenants(self, database: Database) -> TenantDirectory:
        """Returns the directory of the application's tenants."""
        from temporal_tenancy.control_plane.directory import ControlPlaneDirectory

        made = ControlPlaneDirectory if self.directory is None else self.directory
        return made(database)


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


def _installation() -> Installation:
    # Imported here: it loads the SDK, which help does not need.
    from temporal_tenancy.postgres.installation import Installation

    return Installation()


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


def program_name() -> str | None:
    """Returns the name of the current program; None outside `use_program`."""
    program = _program.get(None)
    return None if program is None else program.name


def current_application() -> Application:
    """Returns the current application; raises the errors of `current_program` and of `load`."""
    return current_program().application


def with_hint(sentence: str) -> str:
    """Adds a hint, if a command helps, to `TenantUnknown: there is no tenant x. …`."""
    program = current_program()
    return program.hints.sentence(sentence, partial(_has_own_directory, program))


def message_with_hint(kind: str, message: str) -> str:
    """Adds a hint, if a command helps, to the message of an error of the type `kind`."""
    program = current_program()
    return program.hints.message(kind, message, partial(_has_own_directory, program))


def _has_own_directory(program: Program) -> bool:
    application = program.loaded
    return application is not None and application.has_own_directory


def quoted(command: str) -> str:
    """Returns a command of this program in quotation marks."""
    return f'"{current_program().name} {command}"'
