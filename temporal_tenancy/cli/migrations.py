"""Migrates the database, and shows or takes away what every role of the server may do in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from temporal_tenancy.cli._not_reachable import NotReachable
from temporal_tenancy.cli._server_access import environments
from temporal_tenancy.cli.answers import Answer
from temporal_tenancy.cli.program import Application, Login, current_application, quoted
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.hardening import Opening, openings
from temporal_tenancy.postgres.migrations import migrate, pending


async def migrate_all(*, harden: bool = False) -> Answer:
    """Creates the roles, the control plane and the tenants' tables that are missing.

    Args:
        harden: also take away what every role of the server may do in the database.

    Raises:
        NotReachable: a URL is not set, or its server does not answer.
        ConfigurationError: a URL logs in as the wrong role, or the owner lacks a right.
        ExcessRights: a runtime role has rights that it must not have.
    """
    application = current_application()
    owner = _required(application, application.owner)
    with application.reaching():
        before = [str(behind) for behind in pending(owner, environments(application))]
        found = _openings(application, owner) if harden else []
        migrate(
            owner,
            tenant_url=_required(application, application.tenant),
            platform_url=_required(application, application.platform),
            relay_url=application.relay.url,
            application=application.environments,
            installation=application.installation,
            harden=harden,
        )
    text = "The database is migrated." if before else "The database was up to date."
    document: dict[str, Any] = {"migrated": bool(before), "were_behind": before}
    if harden:
        text = "\n".join([text, *(f"Done: {opening.revoke}." for opening in found)])
        document |= {"hardened": bool(found), "open": _documents(found)}
    return Answer(document, text)


async def show_openings() -> Answer:
    """Lists what `migrate_all(harden=True)` would take away, and changes nothing.

    Raises `NotReachable` if the owner's URL is not set, or its server does not answer.
    """
    application = current_application()
    owner = _required(application, application.owner)
    with application.reaching():
        found = _openings(application, owner)
    document = {"hardened": False, "open": _documents(found)}
    if not found:
        return Answer(document, "There is nothing to take away.")
    lines = [f"{str(opening)[0].upper()}{str(opening)[1:]}" for opening in found]
    ending = f"Nothing was changed. {quoted('migrate --harden --yes')} migrates and takes it away."
    return Answer(document, "\n".join([*lines, ending]))


def _openings(application: Application, owner_url: str) -> list[Opening]:
    with connect(owner_url) as owner:
        return openings(owner, application.installation.roles)


def _documents(found: Sequence[Opening]) -> list[dict[str, Any]]:
    return [
        {"right": opening.right, "revoke": opening.revoke, "roles": list(opening.roles)}
        for opening in found
    ]


def _required(application: Application, login: Login) -> str:
    if login.url is None:
        sentence = f"{login.setting} is not set. {application.how_to_start}"
        raise NotReachable(sentence.rstrip())
    return login.url
