"""Parses command-line arguments strictly."""

from __future__ import annotations

import math
import re
import time
import uuid
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from secrets import randbits
from typing import Any, Final, TypeVar

import typer

from temporal_tenancy.cli.program import current_application, quoted
from temporal_tenancy.core.directory import TenantStatus
from temporal_tenancy.core.errors import InvalidPayload, TenantMismatch, TenantMissing
from temporal_tenancy.core.identifiers import tenant_id
from temporal_tenancy.core.instants import in_utc
from temporal_tenancy.core.jobs import Job, registry
from temporal_tenancy.core.payloads import NotReadable, read

Member = TypeVar("Member", bound=StrEnum)


def tenant_job(name: str) -> Job:
    """Returns a tenant's job by its name.

    Raises:
        UnknownJob: no job has that name.
        typer.BadParameter: the job is the platform's, or only the relay starts it.
    """
    job = registry.get_or_raise(name)
    if job.kind != "tenant":
        raise typer.BadParameter(
            f"{name} is a job of the platform and does not run for a single tenant."
            f"{_how_to_trigger(name)}",
            param_hint="JOB",
        )
    if not job.is_asked_for:
        raise typer.BadParameter(
            f"only the relay starts {name}, for messages of another job.", param_hint="JOB"
        )
    return job


def _how_to_trigger(name: str) -> str:
    """Returns the sentence that names the command for a platform job, if it has a schedule."""
    if name not in {scheduled.job for scheduled in current_application().every_schedule}:
        return ""
    return f" {quoted(f'schedules trigger {name}')} starts it now."


def input_fields(text: str | None, *, what: str) -> dict[str, Any]:
    """Returns the JSON object of `--input`; empty if the option is missing.

    Raises `InvalidPayload`, whose message does not quote the input.
    """
    if text is None:
        return {}
    try:
        value = read(text)
    except NotReadable as error:
        raise InvalidPayload(f"{what} {error}.") from None
    if not isinstance(value, dict):
        raise InvalidPayload(f'{what} is not a JSON object, as in {{"period": "2013-04"}}.')
    return value


def owner(tenant: str | None, values: dict[str, Any], *, what: str) -> str:
    """Returns the tenant that `--tenant` or the input names.

    Raises `TenantMissing`, `TenantInvalid`, or `TenantMismatch` if the two disagree.
    """
    in_input = values.get("tenant_id")
    if tenant is None and in_input is None:
        raise TenantMissing(f'{what} names no tenant. Add "--tenant".')
    if tenant is not None and in_input is not None and tenant != in_input:
        raise TenantMismatch(
            f"--tenant names {tenant_id(tenant)}, but {what} says {tenant_id(in_input)}. "
            "Leave one of them out."
        )
    return tenant_id(in_input if tenant is None else tenant)


def statuses(text: str | None) -> Sequence[TenantStatus] | None:
    """Parses statuses such as `active,trial`; returns None for None."""
    if text is None:
        return None
    known = ", ".join(TenantStatus)
    try:
        return [TenantStatus(word.strip()) for word in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"a status is one of {known}.") from None


def one_of(kind: type[Member], text: str, option: str) -> Member:
    """Returns the member of `kind` that an option names; raises `typer.BadParameter`."""
    try:
        return kind(text)
    except ValueError:
        known = ", ".join(member.value for member in kind)
        raise typer.BadParameter(f"{text!r} is none of {known}.", param_hint=option) from None


def where(text: str | None) -> Sequence[TenantStatus] | None:
    """Parses `--where`, such as `status=active,trial`; returns None for None."""
    if text is None:
        return None
    name, _, value = text.partition("=")
    if name.strip() != "status":
        raise typer.BadParameter('it reads "status=active,trial".', param_hint="--where")
    return statuses(value)


LONGEST: Final = timedelta(days=36_500)

_AGE: Final = re.compile(r"(\d{1,6})([smhdw])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def age(text: str | None, *, option: str) -> timedelta | None:
    """Parses a length of time such as `90m`, `12h` or `3d`; returns None for None."""
    if text is None:
        return None
    match = _AGE.fullmatch(text.strip())
    if match is None:
        raise typer.BadParameter(
            "it is a number followed by s, m, h, d or w, such as 90m or 3d.", param_hint=option
        )
    count, unit = match.groups()
    length = timedelta(**{_UNITS[unit]: int(count)})
    if length > LONGEST:
        raise typer.BadParameter(f"it is {LONGEST.days}d at most.", param_hint=option)
    return length


def percentage(text: str, *, option: str) -> float:
    """Parses a percentage such as `1%` or `0.5`; returns a share from 0 to 1.

    Raises `typer.BadParameter`.
    """
    digits = text.strip().removesuffix("%").strip()
    try:
        percent = float(digits)
    except ValueError:
        percent = math.nan
    if not math.isfinite(percent):
        raise typer.BadParameter('it is a percentage, such as "1%".', param_hint=option)
    if not 0 < percent <= 100:
        raise typer.BadParameter(
            f"it is above 0 % and at most 100 %, and this is {percent:g} %.", param_hint=option
        )
    return percent / 100


def moment(value: datetime, *, option: str) -> datetime:
    """Converts a time to UTC; a time without an offset is in UTC already.

    Raises `typer.BadParameter` if the year in UTC is outside Python's range.
    """
    try:
        return in_utc(value if value.tzinfo is not None else value.replace(tzinfo=UTC))
    except ValueError as error:
        raise typer.BadParameter(f"{error}.", param_hint=option) from None


def day_or_time(text: str, *, option: str) -> datetime:
    """Parses a day or a time, such as `2026-12-24` or `2026-12-24T18:00:00Z`; returns it in UTC.

    Raises `typer.BadParameter` for anything else, such as a day that the calendar does not have.
    """
    return moment(_parsed(text, option, 'a day or a time, such as "2026-12-24"'), option=option)


def start_time(text: str, *, option: str) -> datetime:
    """Parses a time at which a job can start, with an offset, such as `2026-12-24T18:00:00Z`.

    Returns it in UTC. Raises `typer.BadParameter` for anything else, such as a day that the
    calendar does not have, or a year in which the outbox starts nothing.
    """
    what = 'a time with an offset, such as "2026-12-24T18:00:00Z"'
    parsed = _parsed(text, option, what)
    if parsed.utcoffset() is None:
        raise typer.BadParameter(f"it is {what}.", param_hint=option)
    if not FIRST_YEAR < parsed.year < LAST_YEAR:
        raise typer.BadParameter(
            f"a job's time must be after {FIRST_YEAR} and before {LAST_YEAR}.", param_hint=option
        )
    return moment(parsed, option=option)


FIRST_YEAR: Final = 1969
LAST_YEAR: Final = 9999
"""Between these years the outbox starts jobs; in UTC, as the offset may be a day."""
_DAY: Final = re.compile(r"(\d{4})-(\d{2})-(\d{2})(?:$|[T ])", re.ASCII)


def require_day(text: str, *, option: str) -> None:
    """Raises `typer.BadParameter` if `text` begins with a day that the calendar does not have."""
    day = _DAY.match(text.strip())
    if day is None:
        return
    try:
        date(*map(int, day.groups()))
    except ValueError:
        raise typer.BadParameter(
            f"the calendar has no day {day[0].rstrip('T ')}.", param_hint=option
        ) from None


def _parsed(text: str, option: str, what: str) -> datetime:
    try:
        return datetime.fromisoformat(text.strip())
    except ValueError:
        require_day(text, option=option)
        raise typer.BadParameter(f"it is {what}.", param_hint=option) from None


def uuid7() -> str:
    """Returns a new UUID; they sort by creation time (RFC 9562, 5.7)."""
    milliseconds = time.time_ns() // 1_000_000
    number = milliseconds << 80 | 7 << 76 | randbits(12) << 64 | 0b10 << 62 | randbits(62)
    return str(uuid.UUID(int=number))
