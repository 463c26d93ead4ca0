"""Migrates the database."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final

from temporal_tenancy.cli._application_lookup import ApplicationMissing
from temporal_tenancy.cli._not_reachable import NotReachable, reaching
from temporal_tenancy.cli._server_access import environments
from temporal_tenancy.cli.answers import Answer, lines
from temporal_tenancy.cli.program import Application, Login, current_application
from temporal_tenancy.core.migration_environment import LIBRARY
from temporal_tenancy.postgres.migrations import migrate, pending

_WITHOUT_URL: Final = (
    "A role whose URL you do not give keeps its password; a new one cannot log in until it has one."
)


@dataclass(frozen=True)
class Urls:
    """The URLs that a person names; None: the application's, if there is one."""

    owner: str | None = None
    tenant: str | None = None
    platform: str | None = None
    relay: str | None = None


async def migrate_all(urls: Urls) -> Answer:
    """Creates the roles, the control plane and the tenants' tables that are missing.

    If a person names the owner, an application is not needed: without one, the library's tables
    are created.

    Raises:
        ApplicationMissing: there is no application, and `urls` has no owner.
        NotReachable: a URL is not set, or its server does not answer.
        ConfigurationError: a URL logs in as the wrong role.
        ExcessRights: a runtime role has rights that it must not have.
    """
    application = _application(urls)
    if application is None:
        return _migrated(urls, None)
    return _migrated(
        Urls(
            owner=urls.owner or _required(application, application.owner),
            tenant=urls.tenant or _required(application, application.tenant),
            platform=urls.platform or _required(application, application.platform),
            relay=urls.relay or application.relay.url,
        ),
        application,
    )


def _application(urls: Urls) -> Application | None:
    try:
        return current_application()
    except ApplicationMissing as error:
        if urls.owner is not None:
            return None
        raise ApplicationMissing(
            f"{error} To create the library's tables alone, name the database's owner with "
            "--database-url."
        ) from None


def _migrated(urls: Urls, application: Application | None) -> Answer:
    assert urls.owner is not None
    needed = LIBRARY if application is None else environments(application)
    with _reaching(application):
        before = [str(behind) for behind in pending(urls.owner, needed)]
        migrate(
            urls.owner,
            tenant_url=urls.tenant,
            platform_url=urls.platform,
            relay_url=urls.relay,
            application=() if application is None else application.environments,
        )
    text = "The database is migrated." if before else "The database was up to date."
    without = application is None and None in (urls.tenant, urls.platform, urls.relay)
    return Answer(
        {"migrated": bool(before), "were_behind": before},
        lines(text, _WITHOUT_URL if without else None),
    )


def _reaching(application: Application | None) -> AbstractContextManager[None]:
    return reaching() if application is None else application.reaching()


def _required(application: Application, login: Login) -> str:
    if login.url is None:
        sentence = f"{login.setting} is not set. {application.how_to_start}"
        raise NotReachable(sentence.rstrip())
    return login.url
