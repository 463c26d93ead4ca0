"""Bringing the database to what the code needs."""

from __future__ import annotations

from pydantic import SecretStr

from processes.cli.answers import Answer
from processes.cli.servers import ENVIRONMENTS
from processes.connect import HOW_TO_START, NotReachable, plain, reaching
from saas.database.tables import TENANT_DATA
from saas.settings import load_settings
from temporal_tenancy.postgres.migrations import migrate, pending


async def migrate_all() -> Answer:
    """Makes the roles, the control plane and the tenants' tables; done twice, it changes nothing.

    Raises:
        NotReachable: a URL is not set, or its server does not answer.
        ConfigurationError: a URL is of another role than it should be.
        ExcessRights: a runtime role may do more than its part.
    """
    settings = load_settings()
    owner = _required("DATABASE_URL", settings.database_url)
    with reaching():
        before = [str(behind) for behind in pending(owner, ENVIRONMENTS)]
        migrate(
            owner,
            tenant_url=_required("TENANT_DATABASE_URL", settings.tenant_database_url),
            platform_url=_required("PLATFORM_DATABASE_URL", settings.platform_database_url),
            relay_url=plain(settings.relay_database_url),
            application=[TENANT_DATA],
        )
    text = "The database is migrated." if before else "The database was up to date."
    return Answer({"migrated": bool(before), "were_behind": before}, text)


def _required(name: str, url: SecretStr | None) -> str:
    if url is None:
        raise NotReachable(f"{name} is not set. {HOW_TO_START}")
    return url.get_secret_value()
