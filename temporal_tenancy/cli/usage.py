"""Shows what tenants and jobs have used of the workers and the database."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import typer

from temporal_tenancy.cli._server_access import control_plane, known_tenant
from temporal_tenancy.cli.answers import Answer, lines, minute, table, whole
from temporal_tenancy.core.csv_safety import safe_cell
from temporal_tenancy.core.identifiers import PLATFORM, tenant_id
from temporal_tenancy.core.instants import in_utc
from temporal_tenancy.metering import By, Usage
from temporal_tenancy.metering import usage as read_usage

SPAN: Final = timedelta(days=30)  # without --since
AGE: Final = "figures may be a minute old"  # FLUSHED_EVERY of the metering
DIGITS: Final = 3  # of seconds, in a spreadsheet
_FIGURES: Final = ("worker_seconds", "database_seconds", "attempts", "workflows")


async def show(tenant: str | None, by: By, *, since: str | None, until: str | None) -> Answer:
    """Shows the seconds, attempts and workflows of each tenant, or of each job.

    Raises:
        TenantUnknown: there is no such tenant.
        typer.BadParameter: a time cannot be read.
    """
    from_, to = _span(since, until)
    rows = await _rows(tenant, by, from_, to)
    document = {
        "since": from_,
        "until": to,
        "by": by,
        "usage": [{by: row.name, **asdict(row.used)} for row in rows],
    }
    shown = table(
        (by, "worker seconds", "database seconds", "attempts", "workflows"),
        [
            (
                whole(_name(row)),
                f"{row.used.worker_seconds:,.1f}",
                f"{row.used.database_seconds:,.1f}",
                f"{row.used.attempts:,}",
                f"{row.used.workflows:,}",
            )
            for row in rows
        ],
        empty="Nothing was metered.",
    )
    return Answer(document, lines(f"From {minute(from_)} to {minute(to)}; {AGE}:", shown))


async def as_csv(tenant: str | None, by: By, *, since: str | None, until: str | None) -> str:
    """Returns the same as CSV with a header; raises the same as `show`."""
    from_, to = _span(since, until)
    return csv_of(by, await _rows(tenant, by, from_, to))


def csv_of(by: By, rows: Iterable[Usage]) -> str:
    """Returns lines of CSV without quotes where none are needed, for `cut` and spreadsheets.

    Line breaks and other control characters, which no name has, become blanks.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((by, *_FIGURES))
    for row in rows:
        used: dict[str, Any] = asdict(row.used)
        name = "".join(each if each.isprintable() else " " for each in _name(row))
        writer.writerow((safe_cell(name), *(round(used[figure], DIGITS) for figure in _FIGURES)))
    return text.getvalue().rstrip("\n")


def _name(row: Usage) -> str:
    """Returns a row's name for people; what ran outside any job has none."""
    return row.name or "(no job)"


async def _rows(tenant: str | None, by: By, since: datetime, until: datetime) -> Sequence[Usage]:
    async with control_plane() as database:
        rows = await read_usage(database, since=since, until=until, tenant=tenant, by=by)
        if not rows and tenant is not None and tenant != PLATFORM:
            # One that the directory has forgotten still has used what it used.
            await known_tenant(database, tenant_id(tenant))
        return rows


def _span(since: str | None, until: str | None) -> tuple[datetime, datetime]:
    to = datetime.now(UTC) if until is None else _moment(until, "--until")
    from_ = to - SPAN if since is None else _moment(since, "--since")
    if from_ >= to:
        raise typer.BadParameter("it is before --until.", param_hint="--since")
    return from_, to


def _moment(text: str, option: str) -> datetime:
    """Reads a day, whose start in UTC it is, or a time with an offset."""
    try:
        moment = datetime.fromisoformat(text)
        if moment.utcoffset() is None:
            if moment.time() != datetime.min.time() or "T" in text or ":" in text:
                raise ValueError
            moment = moment.replace(tzinfo=UTC)
        return in_utc(moment)
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            'it is a day, such as "2026-12-01", or a time with an offset, such as '
            '"2026-12-24T18:00:00Z".',
            param_hint=option,
        ) from None
