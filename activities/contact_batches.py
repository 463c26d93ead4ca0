"""Writing a batch of contacts: new ones are added, the others changed, in one statement."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection, Mapping
from typing import Any, Final, cast
from uuid import UUID

import psycopg
from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from activities.contact_rows import CheckedRows
from temporal_tenancy.scope import current_tenant

UNNEST_MAX: Final = 1_000  # rows; more go faster by COPY

# An empty cell takes nothing away. In one order, so that two imports take turns.
_UPSERT: Final = """
    with written as (
        insert into contacts as there
            (tenant_id, email, name, phone, company, country, attributes)
        select
            :tenant, email, nullif(name, ''), nullif(phone, ''), nullif(company, ''),
            nullif(country, ''), coalesce(attributes, '{{}}')
          from {source}
         order by email
        on conflict (tenant_id, email) do update set
            name = coalesce(excluded.name, there.name),
            phone = coalesce(excluded.phone, there.phone),
            company = coalesce(excluded.company, there.company),
            country = coalesce(excluded.country, there.country),
            attributes = there.attributes || excluded.attributes,
            updated_at = now()
        returning xmax = 0 as is_new
    )
    select count(*) filter (where is_new) from written
"""
_FROM_ARRAYS: Final = """
    unnest(
        cast(:emails as text[]), cast(:names as text[]), cast(:phones as text[]),
        cast(:companies as text[]), cast(:countries as text[]), cast(:attributes as jsonb[])
    ) as given (email, name, phone, company, country, attributes)
"""
_BY_ARRAYS: Final = text(_UPSERT.format(source=_FROM_ARRAYS))
# PostgreSQL refuses COPY into a table with row-level security: the rows go by way of a table that
# lives as long as the transaction, and the policy is checked when they are moved.
_STAGE: Final = text("""
    create temporary table staged_contacts (
        email text, name text, phone text, company text, country text, attributes jsonb
    ) on commit drop
""")
_COPY: Final = "copy staged_contacts from stdin (format csv)"
_BY_COPY: Final = text(_UPSERT.format(source="staged_contacts"))

_SEE: Final = text("""
    with seen as (
        insert into import_seen_emails (tenant_id, import_id, email)
        select :tenant, :import_id, email
          from unnest(cast(:emails as text[])) as given (email)
        on conflict do nothing
        returning email
    )
    select count(*)
      from seen
     where not exists (
               select from contacts
                where contacts.tenant_id = :tenant
                  and contacts.email = seen.email
           )
""")


async def upsert(session: AsyncSession, checked: CheckedRows) -> int:
    """Writes the contacts of checked rows; returns how many of them are new."""
    contacts = checked.contacts
    if len(contacts) > UNNEST_MAX:
        await session.execute(_STAGE)
        await _copy(session, checked)
        return await _count(session, _BY_COPY, {})
    if not contacts:
        return 0
    columns: list[list[str]] = [list(column) for column in zip(*contacts.values(), strict=True)]
    given = dict(zip(("names", "phones", "companies", "countries"), columns, strict=True))
    attributes = [_json(checked.attributes.get(email)) for email in contacts]
    values = {"emails": list(contacts), **given, "attributes": attributes}
    return await _count(session, _BY_ARRAYS, values)


async def count_new(session: AsyncSession, import_id: UUID, emails: Collection[str]) -> int:
    """How many of `emails` would be new, if those of earlier calls for the import were written."""
    values = {"import_id": import_id, "emails": list(emails)}
    return await _count(session, _SEE, values) if emails else 0


async def _copy(session: AsyncSession, checked: CheckedRows) -> None:
    # The csv module writes rows faster than they could be put together here.
    buffer = io.StringIO(newline="")
    said = checked.attributes.get
    csv.writer(buffer).writerows(
        (email, *known, _json(said(email))) for email, known in checked.contacts.items()
    )
    connection = await (await session.connection()).get_raw_connection()
    driver = cast(psycopg.AsyncConnection, connection.driver_connection)
    async with driver.cursor() as cursor, cursor.copy(_COPY) as copy:
        await copy.write(buffer.getvalue())


def _json(attributes: Mapping[str, str] | None) -> str | None:
    return json.dumps(attributes, ensure_ascii=False) if attributes else None


async def _count(session: AsyncSession, statement: TextClause, values: Mapping[str, Any]) -> int:
    counted = await session.execute(statement, {"tenant": current_tenant(), **values})
    return int(counted.scalar_one())
