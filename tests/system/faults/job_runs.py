"""A run of every job of the reference SaaS: its input, and everything that it leaves behind."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from psycopg import Connection
from psycopg.rows import dict_row
from psycopg.sql import SQL, Identifier
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from activities.mail import ask_for_mail
from activities.notifications import MAIL_SETTING
from activities.payments import receive_payment_event
from activities.uploads import begin_import
from saas.database.contacts import Contact
from saas.database.exports import ExportDataset, ExportFormat
from saas.database.integrations import Integration
from saas.requests.exports import begin_export
from saas.requests.reports import request_report
from saas.services.webhooks import VerifiedEvent
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.core.directory import TenantStatus
from temporal_tenancy.core.jobs import Job, registry
from temporal_tenancy.postgres.database import Database, tenant_session
from tests.fixtures.postgres import within
from workflows import WORKFLOWS

DAY: Final = "2013-01-01"
MONTH: Final = "2013-01"
PARTNERS_RECORDS: Final = 3
PER_PAGE: Final = 2
CREDENTIAL: Final = "integrations.crm"  # the name of a file of secrets

# What every tenant has before.
_ROWS: Final = (
    """
    insert into usage_events
        (tenant_id, time_hour, carrier, flight, origin, destination, distance, cancelled)
    select tenant, '2013-01-01T12:00Z', 'AC', number, 'JFK', 'LAX', 100, false
      from unnest(%(tenants)s::text[]) as tenant, generate_series(1, 3) as number
    """,
    """
    insert into contacts (tenant_id, email, name)
    select tenant, 'c' || number || '@airline.example', 'Contact ' || number
      from unnest(%(tenants)s::text[]) as tenant, generate_series(1, 2) as number
    """,
    """
    insert into documents (tenant_id, kind, key, content, expires_at)
    select tenant, 'note', number::text, '{"text": "remember"}',
           case when number = 1 then timestamptz '2013-01-02T00:00Z' end
      from unnest(%(tenants)s::text[]) as tenant, generate_series(1, 2) as number
    """,
    """
    insert into audit_entries (tenant_id, at, actor, action, subject, details)
    select tenant, '2013-01-01T12:00Z', 'ada', 'noted', number::text, '{}'
      from unnest(%(tenants)s::text[]) as tenant, generate_series(1, 3) as number
    """,
)

Fields = Mapping[str, Any]  # of a job's input, JSON
Prepare = Callable[[AsyncSession], Awaitable[Fields]]


def fixed(**fields: Any) -> Prepare:
    """An input that needs nothing to be prepared."""

    async def prepare(session: AsyncSession) -> Fields:
        return fields

    return prepare


async def _mail(session: AsyncSession) -> Fields:
    await ask_for_mail(
        session, "welcome", recipient="ann@airline.example", subject="Hello", body="All is there."
    )
    return {"mail_id": "welcome"}


async def _payment(session: AsyncSession) -> Fields:
    at = datetime(2026, 11, 22, 12, tzinfo=UTC)
    body = {
        "type": "subscription.activated",
        "timestamp": at.isoformat(),
        "data": {"plan": "standard"},
    }
    sent = VerifiedEvent("evt_1", at + timedelta(hours=1), json.dumps(body).encode())
    await receive_payment_event(session, sent)
    return {"event_id": sent.id}


async def _file() -> AsyncIterator[bytes]:
    yield b"email,name\r\na@airline.example,Ada\r\nb@airline.example,Bo\r\nnobody,N\r\n"


async def _import(session: AsyncSession) -> Fields:
    started = await begin_import(_file(), file_name="contacts.csv", started_by="ada")
    return {"import_id": str(started)}


async def _export(session: AsyncSession) -> Fields:
    export_id = await begin_export(session, ExportDataset.USAGE_EVENTS, ExportFormat.CSV)
    return {"export_id": str(export_id)}


async def _report(session: AsyncSession) -> Fields:
    days = {"first": DAY, "last": DAY}
    return {"report_id": str(await request_report(session, "usage.by_route", days))}


async def _integration(session: AsyncSession) -> Fields:
    added = insert(Integration).values(name="crm", url=Partner.url).returning(Integration.id)
    return {"integration_id": str((await session.scalars(added)).one())}


async def _contact(session: AsyncSession) -> Fields:
    found = await session.scalars(select(Contact.id).order_by(Contact.email).limit(1))
    return {"kind": "contact", "ref": str(found.one())}


INPUTS: Final[Mapping[str, Prepare]] = {
    "billing.cycle": fixed(period=MONTH),
    "analytics.aggregate": fixed(period=MONTH),
    "retention.enforce": fixed(keep_days=30),
    "cleanup.expired": fixed(),
    "trial.expiry": fixed(),
    "report.daily": fixed(period=DAY),
    "audit.aggregate": fixed(period=DAY),
    "email.send": _mail,
    "notifications.send": fixed(subject="Done", body="All is there.", reference="import 1"),
    "payments.webhook": _payment,
    "contacts.import": _import,
    "exports.generate": _export,
    "reports.generate": _report,
    "integrations.sync": _integration,
    "search.index": _contact,
    "search.reindex": fixed(),
}


class InputMissing(AssertionError):
    """A job has no input here."""


def jobs() -> list[Job]:
    """Returns the jobs of the reference SaaS.

    Raises:
        InputMissing: one has no input in `INPUTS`.
    """
    found = [job for job in registry.values() if job.workflow in WORKFLOWS]
    require_inputs([job.name for job in found])
    return found


def require_inputs(names: Iterable[str]) -> None:
    """Raises `InputMissing` unless each job has an input here."""
    missing = sorted(set(names) - set(INPUTS))
    if missing:
        raise InputMissing(
            f"no run of {', '.join(missing)} is known here, so nobody knows whether it survives "
            "the end of its worker. Add its input to INPUTS in tests/system/faults/job_runs.py."
        )


class Partner:
    """A partner's API with some records, on two pages."""

    url = ""  # once it is served

    def __init__(self) -> None:
        self.app = Starlette(routes=[Route("/records", self._answer)])

    async def _answer(self, request: Request) -> JSONResponse:
        start = int(request.query_params.get("cursor") or 0)
        end = min(start + PER_PAGE, PARTNERS_RECORDS)
        items = [{"id": number} for number in range(start, end)]
        return JSONResponse(
            {"items": items, "cursor": str(end), "has_more": end < PARTNERS_RECORDS}
        )


async def add_tenants(
    tenants: Tenants, everything: Connection, secrets: Path, jobs_of: Mapping[str, str]
) -> None:
    """Adds tenants with data of their own; `jobs_of` says which job each is for."""
    for tenant, job in jobs_of.items():
        trial = job == "trial.expiry"
        await tenants.add(
            tenant,
            "Airline",
            plan="enterprise",
            status=TenantStatus.TRIAL if trial else TenantStatus.ACTIVE,
            trial_ends_at=datetime(2026, 1, 1, tzinfo=UTC) if trial else None,
            settings={MAIL_SETTING: "ann@airline.example"},
        )
        keep_credential(secrets, tenant)
    write_rows(everything, jobs_of)


def keep_credential(secrets: Path, tenant: str) -> None:
    """Keeps a tenant's credential for the partner's API."""
    (secrets / tenant).mkdir(parents=True)
    (secrets / tenant / CREDENTIAL).write_text("token")


def write_rows(everything: Connection, tenants: Iterable[str]) -> None:
    """Writes what each tenant has before, into the tables of the connection's search path."""
    for statement in _ROWS:
        everything.execute(statement, {"tenants": list(tenants)})


async def prepare(database: Database, tenant: str, job: str) -> dict[str, Any]:
    """Prepares a run of a job; returns its input."""
    with within(database, tenant):
        async with tenant_session() as session:
            return {"tenant_id": tenant, **await INPUTS[job](session)}


_TABLES: Final = """
    select columns.table_schema, columns.table_name
      from information_schema.columns
      join information_schema.tables using (table_schema, table_name)
     where column_name = 'tenant_id' and table_type = 'BASE TABLE'
       and columns.table_schema = any(array['public', 'tenancy'])
     order by 1, 2
"""
# A measurement is another one each time.
MEASURED: Final = frozenset({"metered_hours"})
_CHANGING: Final = (
    re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"),
    re.compile(r"20[2-9][0-9]-[0-9]{2}-[0-9]{2}[T ][0-9:.]*(\+[0-9:]+|Z)?"),  # now, not 2013
)


def left_by(everything: Connection, storage: Path, tenant: str) -> dict[str, Counter[str]]:
    """Returns what a tenant has now, by table and place, without its name, random ids and times.

    Two tenants to whom the same has happened have the same.
    """
    found: dict[str, Counter[str]] = {}
    with everything.cursor(row_factory=dict_row) as cursor:
        for each in cursor.execute(_TABLES).fetchall():
            table = Identifier(each["table_schema"], each["table_name"])
            query = SQL("select to_jsonb(t)::text as row from {} as t where tenant_id = %s")
            rows = cursor.execute(query.format(table), [tenant]).fetchall()
            if rows and each["table_name"] not in MEASURED:
                found[each["table_name"]] = Counter(_same(row["row"], tenant) for row in rows)
        query = SQL("select status, plan_id from tenancy.tenants where id = %s")
        found["tenants"] = Counter(map(str, cursor.execute(query, [tenant]).fetchall()))
    files = [path for path in (storage / tenant).rglob("*") if path.is_file()]
    found["files"] = Counter(
        _same(f"{path.relative_to(storage)}: {path.read_bytes()!r}", tenant) for path in files
    )
    return found


def _same(text: str, tenant: str) -> str:
    text = text.replace(tenant, "TENANT")
    for changing in _CHANGING:
        text = changing.sub("*", text)
    return text
