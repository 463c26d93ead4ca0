"""Writes a batch of contacts: inserts or updates them in one statement."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple, cast
from uuid import UUID

import psycopg
from sqlalchemy import CursorResult, TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from activities.contact_rows import CheckedRows
from saas.database.new_ids import new_ids
from saas.services.addresses import other_spellings
from temporal_tenancy import current_tenant

UNNEST_MAX: Final = 1_000  # rows; above that COPY is faster

# An empty cell keeps the stored value, and a row without new values changes nothing. The order
# prevents deadlocks between two imports.
_UPSERT: Final = """
    with written as (
        insert into contacts as there
            (tenant_id, email, name, phone, company, country, attributes{id_}{created_at})
        select
            :tenant, email, nullif(name, ''), nullif(phone, ''), nullif(company, ''),
            nullif(country, ''), coalesce(attributes, '{{}}'){id_}{created}
          from {source}
         order by email
        on conflict (tenant_id, email) do update set
            name = coalesce(excluded.name, there.name),
            phone = coalesce(excluded.phone, there.phone),
            company = coalesce(excluded.company, there.company),
            country = coalesce(excluded.country, there.country),
            attributes = there.attributes || excluded.attributes,
            updated_at = now()
        where (there.name, there.phone, there.company, there.country, there.attributes)
            is distinct from (
                coalesce(excluded.name, there.name), coalesce(excluded.phone, there.phone),
                coalesce(excluded.company, there.company),
                coalesce(excluded.country, there.country),
                there.attributes || excluded.attributes
            )
        returning xmax = 0 as is_new
    )
    select count(*) filter (where is_new) as new, count(*) as changed, now() as at from written
"""
_FROM_ARRAYS: Final = """
    unnest(
        cast(:emails as text[]), cast(:names as text[]), cast(:phones as text[]),
        cast(:companies as text[]), cast(:countries as text[]), cast(:attributes as jsonb[]),
        cast(:created as timestamptz[])
    ) as given (email, name, phone, company, country, attributes, created_at)
"""
# An export has the time at which each contact was added.
_CREATED: Final = {"created_at": ", created_at", "created": ", coalesce(created_at, now())"}
_BY_ARRAYS: Final = text(_UPSERT.format(source=_FROM_ARRAYS, id_="", **_CREATED))
# PostgreSQL rejects COPY into a table with row-level security: the rows go through a temporary
# table, and the policy is checked when they are moved.
_STAGE: Final = text("""
    create temporary table staged_contacts (
        email text, name text, phone text, company text, country text, attributes jsonb,
        id uuid, created_at timestamptz
    ) on commit drop
""")
_COPY: Final = """
    copy staged_contacts (email, name, phone, company, country, attributes, id{created_at})
    from stdin (format csv)
"""
_COPY_NEW: Final = _COPY.format(created_at="")
_COPY_EXPORTED: Final = _COPY.format(created_at=", created_at")
_STAGED: Final = {"source": "staged_contacts", "id_": ", id"}
_BY_COPY: Final = text(_UPSERT.format(**_STAGED, created_at="", created=""))
_BY_COPY_EXPORTED: Final = text(_UPSERT.format(**_STAGED, **_CREATED))

# Normalises the address of a contact that was added before addresses had a normal form. Of several
# such contacts only the oldest is changed, and none if the normal form is already taken.
_RESPELL: Final = text("""
    update contacts as there
       set email = found.normal, updated_at = now()
      from (
               select distinct on (given.normal) given.normal, contacts.id
                 from unnest(cast(:others as text[]), cast(:normals as text[]))
                          as given (other, normal)
                 join contacts on contacts.tenant_id = :tenant and contacts.email = given.other
                where not exists (
                          select from contacts as same
                           where same.tenant_id = :tenant
                             and same.email = given.normal
                      )
                order by given.normal, contacts.created_at
           ) as found
     where there.tenant_id = :tenant
       and there.id = found.id
""")
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
       and not exists (
               select from unnest(cast(:others as text[]), cast(:normals as text[]))
                               as given (other, normal)
                 join contacts on contacts.tenant_id = :tenant and contacts.email = given.other
                where given.normal = seen.email
           )
""")


class Written(NamedTuple):
    """What a batch has changed."""

    new: int  # contacts
    changed: int  # contacts, the new ones among them
    at: datetime  # when: their `updated_at`


class Batch(NamedTuple):
    """Contacts that are ready to be written."""

    checked: CheckedRows
    csv: str | None  # for COPY; None for few contacts, or for a dry run


def prepare(checked: CheckedRows, *, dry_run: bool = False) -> Batch:
    """Formats checked rows, which needs no database: it is done while another batch is written.

    `dry_run`: they will only be counted.
    """
    is_copied = len(checked.contacts) > UNNEST_MAX and not dry_run
    return Batch(checked, _csv(checked) if is_copied else None)


async def upsert(session: AsyncSession, batch: Batch) -> Written | None:
    """Writes the contacts of a batch; returns what that changed, or None without contacts."""
    contacts = batch.checked.contacts
    if not contacts:
        return None
    respelled = 0
    if others := _other_spellings(contacts):
        found = await session.execute(_RESPELL, {"tenant": current_tenant(), **others})
        respelled = cast(CursorResult[Any], found).rowcount
    written = await _upsert(session, batch)
    return written._replace(changed=written.changed + respelled)


async def _upsert(session: AsyncSession, batch: Batch) -> Written:
    checked, contacts = batch.checked, batch.checked.contacts
    if batch.csv is not None:
        await session.execute(_STAGE)
        await _copy(session, batch.csv, _COPY_EXPORTED if checked.created else _COPY_NEW)
        return await _written(session, _BY_COPY_EXPORTED if checked.created else _BY_COPY, {})
    columns: list[list[str]] = [list(column) for column in zip(*contacts.values(), strict=True)]
    known = dict(zip(("names", "phones", "companies", "countries"), columns, strict=True))
    values = {
        "emails": list(contacts),
        **known,
        "attributes": [_json(checked.attributes.get(email)) for email in contacts],
        "created": [checked.created.get(email) for email in contacts],
    }
    return await _written(session, _BY_ARRAYS, values)


async def count_new(session: AsyncSession, import_id: UUID, emails: Iterable[str]) -> int:
    """Returns how many of `emails` would be new, assuming that earlier calls had written theirs."""
    addresses = list(emails)
    others = _other_spellings(addresses) or {"others": [], "normals": []}
    values = {"import_id": import_id, "emails": addresses, **others}
    if not addresses:
        return 0
    return int((await session.execute(_SEE, {"tenant": current_tenant(), **values})).scalar_one())


def _other_spellings(emails: Iterable[str]) -> dict[str, list[str]] | None:
    pairs = [
        (other, email)
        for email in emails
        if not email.isascii()
        for other in other_spellings(email)
    ]
    if not pairs:
        return None
    return {"others": [other for other, _ in pairs], "normals": [email for _, email in pairs]}


def _csv(checked: CheckedRows) -> str:
    # The csv module is faster than formatting rows in Python.
    buffer = io.StringIO(newline="")
    attributes, created = checked.attributes.get, checked.created.get
    # In the order in which they are written, so that the ids ascend like the rows.
    contacts = sorted(checked.contacts.items())
    ids = new_ids(len(contacts))
    rows: Iterable[tuple[object, ...]] = (
        (email, *known, _json(attributes(email)), new)
        for (email, known), new in zip(contacts, ids, strict=True)
    )
    if checked.created:
        rows = ((*row, created(email)) for row, (email, _) in zip(rows, contacts, strict=True))
    csv.writer(buffer).writerows(rows)
    return buffer.getvalue()


async def _copy(session: AsyncSession, rows: str, copying: str) -> None:
    connection = await (await session.connection()).get_raw_connection()
    driver = cast(psycopg.AsyncConnection, connection.driver_connection)
    async with driver.cursor() as cursor, cursor.copy(copying) as copy:
        await copy.write(rows)


def _json(attributes: Mapping[str, Any] | None) -> str | None:
    return json.dumps(attributes, ensure_ascii=False) if attributes else None


async def _written(
    session: AsyncSession, statement: TextClause, values: Mapping[str, Any]
) -> Written:
    found = await session.execute(statement, {"tenant": current_tenant(), **values})
    return Written(*found.one())
