"""Integrations: copies a partner's records page by page."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import BaseModel, Field, ValidationError
from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio.exceptions import ApplicationError

from saas.database import audit
from saas.database.integrations import ExternalRecord, Integration, SyncStatus
from saas.refusals import Refused
from saas.requests.integrations import REMOVED, integration_not_found
from saas.services.partner_credentials import credential_for
from temporal_tenancy import (
    current_tenant_record,
    heartbeating,
    tenant_activity,
    tenant_session,
)
from temporal_tenancy.outbox import current_event_id
from temporal_tenancy.shared_state import Rate, platform_rate_limit, tenant_rate_limit

PAGE_LIMIT: Final = 500  # records per request to a partner
# Requests to one partner: of one tenant, in a second and if its plan has no rate, and of all.
TENANT_RATE: Final = 10.0
PARTNER_RATE: Final = Rate(20)
RATE_WAIT: Final = timedelta(minutes=1)

Word = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00]+$")]


class PartnerAnswerInvalid(Refused):
    """The partner's answer is not a page of records."""


class SyncOverlapped(ApplicationError):
    """Another run has copied this page. The next attempt continues after it."""

    def __init__(self) -> None:
        super().__init__(type(self).__doc__ or "", type=type(self).__name__)


class SyncPage(BaseModel):
    """Input of `sync_page`: the integration whose next page to copy."""

    integration_id: UUID


class SyncedPage(BaseModel):
    """The result of copying one page."""

    records: int
    more: bool  # whether the partner has another page


class PartnerPage(BaseModel):
    """A partner's response: records, and the cursor of the next page.

    On the last page `cursor` is where the next run begins; without one, it fetches that page again.
    """

    items: list[dict[str, Any]]  # JSON objects, each with an "id"
    cursor: Word | None = None
    has_more: bool = False


@tenant_activity
@heartbeating()
async def sync_page(request: SyncPage) -> SyncedPage:
    """Copies the page at the integration's cursor; records and cursor change in one transaction.

    Each record replaces the one stored under its id, so fetching a page twice does no harm. An
    integration that the tenant has removed meanwhile has no pages.

    Raises:
        IntegrationNotFound: the tenant has never had the integration.
        PartnerAnswerInvalid: the response is not a page, or its cursor leads back to itself.
        SyncOverlapped: another run has moved the cursor, or the URL has changed; the next attempt
            continues from there.
        SecretMissing: the tenant has no credential `integrations.{name}` for the URL's host.
        RateLimited: the partner's rate, or the tenant's, was used up for a minute.
        AddressRefused, AnswerRefused, OutsideUnavailable: as for `OutgoingHttp.request`.
    """
    found = await _open(request.integration_id)
    if found is None:
        return SyncedPage(records=0, more=False)
    integration, credential = found
    await _admitted(integration)
    page = _read(integration, await _fetch(integration, credential))
    # Of two records with one id the later wins, as one statement cannot update a row twice.
    records = {_id(integration, item): _storable(item) for item in page.items}
    async with tenant_session() as session:
        await _advance(session, integration, page)
        if records:
            rows = [
                {"integration_id": integration.id, "external_id": external_id, "data": data}
                for external_id, data in records.items()
            ]
            added = insert(ExternalRecord)
            await session.execute(
                added.on_conflict_do_update(
                    index_elements=["tenant_id", "integration_id", "external_id"],
                    set_={"data": added.excluded.data, "synced_at": func.now()},
                ),
                rows,
            )
        if not page.has_more:
            # The cursor of a last page leads to itself, so another attempt copies that page again.
            sync = f"{integration.id} {current_event_id()}"
            await audit.record(session, "integration.synced", integration.name, once=sync)
    return SyncedPage(records=len(records), more=page.has_more)


async def _open(integration_id: UUID) -> tuple[Integration, str] | None:
    """Returns the integration with its credential; None if the tenant has removed it meanwhile.

    The row is locked, as it is while both are changed: a credential is never sent to another URL.
    """
    async with tenant_session() as session:
        wanted = select(Integration).where(Integration.id == integration_id)
        found = await session.scalar(wanted.with_for_update(read=True))
        if found is None:
            if not await audit.was_recorded(session, REMOVED, str(integration_id)):
                raise integration_not_found(integration_id)
            return None
        return found, credential_for(found.name, found.url)


async def _admitted(integration: Integration) -> None:
    """Waits for the partner's rates: the tenant's own first, so that none uses up that of all."""
    partner = _partner(integration.url)
    rates = current_tenant_record().plan.rate_limits
    await tenant_rate_limit(
        "partner", Rate.of_plan(rates, "integrations", TENANT_RATE), partner, wait=RATE_WAIT
    )
    await platform_rate_limit("partner", PARTNER_RATE, partner, wait=RATE_WAIT)


def _partner(url: str) -> str:
    """Returns the name of a URL's server; one with a dot at its end is the same server."""
    return (urlsplit(url).hostname or "").rstrip(".")


async def _fetch(integration: Integration, credential: str) -> bytes:
    params = {"limit": str(PAGE_LIMIT)}
    if integration.cursor is not None:
        params["cursor"] = integration.cursor
    # Imported here: the job's declaration does without an HTTP client.
    from saas.services.outgoing_http import outgoing_http

    async with outgoing_http() as http:
        answer = await http.request(
            "GET",
            integration.url,
            params=params,
            headers={"Authorization": f"Bearer {credential}", "Accept": "application/json"},
        )
    return answer.body


def _read(integration: Integration, body: bytes) -> PartnerPage:
    try:
        page = PartnerPage.model_validate_json(body)
    except ValidationError:  # its message would quote the records
        raise _invalid(
            integration, 'is not a page: {"items": [{"id": …}], "cursor": …, "has_more": …}'
        ) from None
    if page.has_more and page.cursor in (None, integration.cursor):
        raise _invalid(integration, "has more pages, but its cursor leads to the same page")
    return page


async def _advance(session: AsyncSession, integration: Integration, page: PartnerPage) -> None:
    """Moves the cursor past the page; raises `SyncOverlapped` if another run has moved it."""
    values: dict[str, object] = {
        "status": SyncStatus.SYNCING,
        "error": None,
        "cursor": page.cursor,
    }
    if not page.has_more:
        values |= {
            "status": SyncStatus.SYNCED,
            "last_synced_at": datetime.now(UTC),
            "cursor": page.cursor or integration.cursor,
        }
    moved = await session.scalar(
        update(Integration)
        .where(
            Integration.id == integration.id,
            Integration.url == integration.url,
            Integration.cursor.is_not_distinct_from(integration.cursor),
        )
        .values(values)
        .returning(Integration.id)
    )
    if moved is None:
        raise SyncOverlapped


def _id(integration: Integration, item: dict[str, Any]) -> str:
    value = item.get("id")
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not 0 < len(value) <= 500 or "\x00" in value:
        raise _invalid(integration, 'has a record whose "id" is not a number or a short text')
    return value


def _storable(value: Any) -> Any:  # JSON
    """Returns the value without what JSONB rejects: NUL characters and non-finite numbers."""
    if isinstance(value, str):
        return value.replace("\x00", "\ufffd")
    if isinstance(value, list):
        return [_storable(each) for each in value]
    if isinstance(value, dict):
        return {_storable(name): _storable(each) for name, each in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _invalid(integration: Integration, what: str) -> PartnerAnswerInvalid:
    return PartnerAnswerInvalid(
        f"the response for the integration {integration.name} {what}. Check its URL, or ask the "
        "partner."
    )
