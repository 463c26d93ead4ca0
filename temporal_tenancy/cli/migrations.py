"""Migrates the database."""

from __future__ import annotations

from typing import Final

from temporal_tenancy.cli._not_reachable import NotReachable
from temporal_tenancy.cli._server_access import environments
from temporal_tenancy.cli.answers import Answer, lines
from temporal_tenancy.cli.program import Application, Login, current_application
from temporal_tenancy.postgres.migrations import migrate, pending

_WITHOUT_URL: Final = (
    "A role whose URL you do not give keeps its password; a new one cannot log in until it has one."
)


async def migrate_all() -> Answer:
    """Creates the roles, the control plane and the tenants' tables that are missing.

    Raises:
        NotReachable: a URL is not set that is needed, or its server does not answer.
        ConfigurationError: a URL logs in as the wrong role.
        ExcessRights: a runtime role has rights that it must not have.
    """
    application = current_application()
    owner = _required(application, application.owner) or ""
    logins = (application.tenant, application.platform, application.relay)
    without = any(login.url is None and not login.needed for login in logins)
    with application.reaching():
        before = [str(behind) for behind in pending(owner, environments(application))]
        migrate(
            owner,
            tenant_url=_required(application, application.tenant),
            platform_url=_required(application, application.platform),
            relay_url=application.relay.url,
            application=application.environments,
        )
    text = "The database is migrated." if before else "The database was up to date."
    return Answer(
        {"migrated": bool(before), "were_behind": before},
        lines(text, _WITHOUT_URL if without else None),
    )


def _required(application: Application, login: Login) -> str | None:
    if login.url is None and login.needed:
        sentence = f"{login.setting} is not set. {application.how_to_start}"
        raise NotReachable(sentence.rstrip())
    return login.url
