"""Integrations as a tenant sets them up: a partner's URL and credential, and requests to sync.

The credential goes to the secret store and is never returned: no row, message, log or error has it.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from saas.database import audit
from saas.database.integrations import Integration, SyncStatus
from saas.database.paging import Listing
from saas.refusals import Refused
from saas.services.partner_credentials import (
    has_credential_for,
    put_credential,
    remove_credential,
)
from saas.services.secrets import SECRET_MAX_BYTES
from temporal_tenancy import current_tenant
from temporal_tenancy.outbox import Enqueued, enqueue_or_find

JOB: Final = "integrations.sync"
REMOVED: Final = "integration.removed"  # in the audit log
URL_MAX_CHARACTERS: Final = 2_000
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")  # as the table's check
_HEADER: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")  # what a header may hold

INTEGRATIONS: Final = Listing("integrations", Integration, [Integration.name], descending=False)


class IntegrationNotFound(Refused):
    """The tenant does not have the integration."""


class IntegrationInvalid(Refused):
    """The integration cannot be set up like that."""


class CredentialMissing(Refused):
    """The integration has no credential."""


@dataclass(frozen=True)
class SetUp:
    """An integration after it was set up."""

    integration: Integration
    added: bool  # False: it existed, and was changed


def is_name(name: str) -> bool:
    """Returns whether an integration can have this name."""
    return _NAME.fullmatch(name) is not None


async def set_up_integration(
    session: AsyncSession, name: str, *, url: str, credential: str | None, actor: str
) -> SetUp:
    """Adds or changes an integration in the transaction of `session`, the `tenant_session()`.

    Commit right afterwards. The row is locked while the credential is stored, and a sync reads
    both under that lock. If the commit fails, the credential stays bound to the host that it was
    given for, so that no URL is ever requested with another one's credential.

    Args:
        session: the tenant's session.
        name: a-z, 0-9, `_` and `-`, up to 63 characters.
        url: an https URL, which every reader of the integration sees. A changed one is read from
            the beginning.
        credential: sent to the URL as a bearer token; None keeps the stored one, but only while
            the URL leads to the same host.
        actor: who sets it up, for the audit log.

    Raises:
        IntegrationInvalid: the name, the URL's length or the credential is not valid; or there is
            no credential, or the URL leads to another host than the stored one's.
        AddressRefused: the URL is not https, or contains credentials.
        SecretRefused: the secret store cannot be written.
        ConfigurationError: SECRETS_URL is not set.
    """
    # Imported here, as it loads an HTTP client, which no other request needs.
    from saas.services.outgoing_http import require_requestable, same_origin

    _check(name, url, credential)
    require_requestable(url)
    new = insert(Integration).values(name=name, url=url).on_conflict_do_nothing()
    added = await session.scalar(new.returning(Integration.id)) is not None
    integration = (
        await session.scalars(select(Integration).where(Integration.name == name).with_for_update())
    ).one()
    if credential is None:
        if added or not await has_credential(integration):
            raise IntegrationInvalid(
                f"the integration {name} has no credential yet. Give it with the URL."
            )
        if not same_origin(integration.url, url):
            raise IntegrationInvalid(
                f"the URL of {name} leads to another host than the stored credential is for. Give "
                "the credential too."
            )
    if integration.url != url:
        integration.url, integration.cursor = url, None
        integration.status, integration.last_synced_at = SyncStatus.NEVER, None
        integration.error = None
        await session.flush()
    action = f"integration.{'added' if added else 'changed'}"
    await audit.record(session, action, name, actor=actor, credential=credential is not None)
    if credential is not None:
        await asyncio.to_thread(put_credential, name, url, credential)
    return SetUp(integration, added)


async def find_integration(session: AsyncSession, name: str) -> Integration:
    """Returns the tenant's integration; raises `IntegrationNotFound`, also for another tenant's."""
    integration = None
    if is_name(name):
        integration = await session.scalar(select(Integration).where(Integration.name == name))
    if integration is None:
        raise integration_not_found(name if is_name(name) else "of this name")
    return integration


async def find_integration_by_id(session: AsyncSession, integration_id: UUID) -> Integration:
    """Returns the tenant's integration; raises `IntegrationNotFound`, also for another tenant's."""
    found = await session.scalar(select(Integration).where(Integration.id == integration_id))
    if found is None:
        raise integration_not_found(integration_id)
    return found


async def has_credential(integration: Integration) -> bool:
    """Returns whether the secret store has an integration's credential, for its URL's host."""
    return await asyncio.to_thread(has_credential_for, integration.name, integration.url)


async def require_credential(integration: Integration) -> None:
    """Raises `CredentialMissing` if a sync would fail for want of the credential."""
    if not await has_credential(integration):
        raise CredentialMissing(
            f"the integration {integration.name} of {current_tenant()} has no credential. Give it "
            "one."
        )


async def remove_integration(session: AsyncSession, name: str, *, actor: str) -> None:
    """Deletes an integration, its records and its credential; commit right afterwards.

    A sync that waits or runs ends without an error. Raises `IntegrationNotFound`, and the errors
    of the secret store as `set_up_integration` does.
    """
    integration = await find_integration(session, name)
    await session.delete(integration)
    await session.flush()
    await audit.record(session, REMOVED, name, actor=actor, once=str(integration.id))
    await asyncio.to_thread(remove_credential, name)


async def request_sync(session: AsyncSession, name: str) -> Enqueued:
    """Requests the sync of an integration in the transaction of `session`, at most once a minute.

    Returns the request, or the earlier one of the same minute.

    Raises:
        IntegrationNotFound: the tenant does not have the integration.
        CredentialMissing: the secret store has no credential for it, so that the job would fail.
    """
    integration = await find_integration(session, name)
    await require_credential(integration)
    minute = datetime.now(UTC).strftime("%Y-%m-%dT%H:%MZ")
    return await enqueue_or_find(
        JOB, {"integration_id": integration.id}, key=f"{integration.id}/{minute}"
    )


def integration_not_found(which: object) -> IntegrationNotFound:
    """Returns the error for an integration that the current tenant does not have."""
    return IntegrationNotFound(f"{current_tenant()} has no integration {which}. Set it up first.")


def _check(name: str, url: str, credential: str | None) -> None:
    if not is_name(name):
        raise IntegrationInvalid(
            "an integration's name is 1 to 63 characters: a-z, 0-9, _ and -, beginning with a "
            "letter or a digit."
        )
    if len(url) > URL_MAX_CHARACTERS or not url.isprintable():
        raise IntegrationInvalid(f"a URL is at most {URL_MAX_CHARACTERS:,} printable characters.")
    if credential is not None and not (
        len(credential) <= SECRET_MAX_BYTES and _HEADER.fullmatch(credential)
    ):
        raise IntegrationInvalid(
            f"a credential is 1 to {SECRET_MAX_BYTES:,} printable ASCII characters on one line, as "
            "it is sent in a header."
        )
