"""The database that a person names on the command line, in place of the application's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NoReturn

from temporal_tenancy.cli._application_lookup import ApplicationMissing
from temporal_tenancy.cli.program import Application, Login, current_program, use_program
from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.postgres.database_urls import database_url
from temporal_tenancy.postgres.installation import Installation, Roles


@dataclass(frozen=True)
class NamedDatabase:
    """What a person names of a database; None: as the application has it."""

    owner: str | None = None  # URLs
    tenant: str | None = None
    platform: str | None = None
    relay: str | None = None
    schema: str | None = None  # of the library's tables

    def of(self, application: Application) -> Application:
        """Returns the application with this database."""
        return replace(
            application,
            owner=_login("--database-url", self.owner, application.owner),
            tenant=_login("--tenant-url", self.tenant, application.tenant),
            platform=_login("--platform-url", self.platform, application.platform),
            relay=_login("--relay-url", self.relay, application.relay),
            installation=_in(self.schema, application.installation),
        )

    def alone(self) -> Application:
        """Returns an application that has this database and nothing else.

        The roles are those that the URLs log in as.

        Raises:
            ConfigurationError: a URL is not a PostgreSQL URL.
        """
        default = Roles()
        roles = Roles(
            tenant=_role("--tenant-url", self.tenant) or default.tenant,
            platform=_role("--platform-url", self.platform) or default.platform,
            relay=_role("--relay-url", self.relay) or default.relay,
        )
        return Application(
            connect=_nowhere,
            database=_nowhere,
            owner=Login("--database-url", self.owner),
            tenant=Login("--tenant-url", self.tenant, needed=False),
            platform=Login("--platform-url", self.platform, needed=False),
            relay=Login("--relay-url", self.relay, needed=False),
            features=(),
            installation=_in(self.schema, Installation(roles=roles)),
        )


@contextmanager
def use_named_database(named: NamedDatabase) -> Iterator[None]:
    """Runs the block's commands on `named`; without an application, on it alone.

    Raises:
        ApplicationMissing: there is no application, and `named` has no owner.
    """
    program = current_program()
    try:
        application = named.of(program.application)
    except ApplicationMissing as error:
        if named.owner is None:
            raise ApplicationMissing(
                f"{error} To create the library's tables alone, name the database's owner with "
                "--database-url."
            ) from None
        application = named.alone()
    with use_program(replace(program, load=lambda: application)):
        yield


def _login(option: str, url: str | None, login: Login) -> Login:
    return login if url is None else replace(login, setting=option, url=url)


def _in(schema: str | None, installation: Installation) -> Installation:
    return installation if schema is None else replace(installation, schema=schema)


def _role(option: str, url: str | None) -> str | None:
    if url is None:
        return None
    try:
        return database_url(url).username
    except ConfigurationError as error:
        raise ConfigurationError(f"{option}: {error}") from None


def _nowhere(*_: object) -> NoReturn:
    raise ConfigurationError("this command has no application, and does not connect for one.")
