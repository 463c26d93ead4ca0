"""Arguments of the command line, read strictly."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from secrets import randbits
from typing import Any, Final

import typer

from temporal_tenancy.core.directory import TenantStatus
from temporal_tenancy.core.errors import InvalidPayload, TenantMismatch, TenantMissing
from temporal_tenancy.core.identifiers import tenant_id
from temporal_tenancy.core.instants import in_utc
from temporal_tenancy.core.jobs import Job, registry
from temporal_tenancy.core.payloads import NotReadable, read


def tenant_job(name: str) -> Job:
    """A tenant's job, by its name.

    Raises:
        UnknownJob: there is none of that name.
        typer.BadParameter: it is the platform's.
    """
    job = registry.get_or_raise(name)
    if job.kind != "tenant":
        raise typer.BadParameter(
            f"{name} is the platform's and runs for no single tenant.", param_hint="JOB"
        )
    if not job.is_asked_for:
        raise typer.BadParameter(
            f"{name} is started by the relay alone, for messages of another job.", param_hint="JOB"
        )
    return job


def fields(given: str | None, *, what: str) -> dict[str, Any]:
    """The JSON object of `--input`; empty if the option is missing.

    Raises `InvalidPayload`, whose message quotes nothing of it.
    """
    if given is None:
        return {}
    try:
        value = read(given)
    except NotReadable as error:
        raise InvalidPayload(f"{what} {error}.") from None
    if not isinstance(value, dict):
        raise InvalidPayload(f'{what} is not a JSON object, as in {{"period": "2013-04"}}.')
    return value


def owner(tenant: str | None, given: dict[str, Any], *, what: str) -> str:
    """The tenant that `--tenant` or the input names.

    Raises `TenantMissing`, `TenantInvalid`, or `TenantMismatch` where the two disagree.
    """
    inside = given.get("tenant_id")
    if tenant is None and inside is None:
        raise TenantMissing(f'{what} names no tenant. Add "--tenant".')
    if tenant is not None and inside is not None and tenant != inside:
        raise TenantMismatch(
            f"--tenant names {tenant_id(tenant)}, but {what} says {tenant_id(inside)}. "
            "Leave one of them out."
        )
    return tenant_id(inside if tenant is None else tenant)


def statuses(given: str | None) -> Sequence[TenantStatus] | None:
    """The statuses of `active,trial`; None where nothing is given."""
    if given is None:
        return None
    known = ", ".join(TenantStatus)
    try:
        return [TenantStatus(word.strip()) for word in given.split(",")]
    except ValueError:
        raise typer.BadParameter(f"a status is one of {known}.") from None


def where(given: str | None) -> Sequence[TenantStatus] | None:
    """The statuses that `--where status=active,trial` asks for; None where nothing is given."""
    if given is None:
        return None
    name, _, value = given.partition("=")
    if name.strip() != "status":
        raise typer.BadParameter('it reads "status=active,trial".', param_hint="--where")
    return statuses(value)


LONGEST: Final = timedelta(days=36_500)

_AGE: Final = re.compile(r"(\d{1,6})([smhdw])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def age(given: str | None, *, option: str) -> timedelta | None:
    """How long `90m`, `12h` or `3d` is; None where nothing is given."""
    if given is None:
        return None
    match = _AGE.fullmatch(given.strip())
    if match is None:
        raise typer.BadParameter(
            "it is a number with s, m, h, d or w behind it, as 90m or 3d.", param_hint=option
        )
    count, unit = match.groups()
    wanted = timedelta(**{_UNITS[unit]: int(count)})
    if wanted > LONGEST:
        raise typer.BadParameter(f"it is {LONGEST.days}d at most.", param_hint=option)
    return wanted


def moment(given: datetime, *, option: str) -> datetime:
    """A time in UTC; without an offset it is taken to be UTC already.

    Raises `typer.BadParameter` if UTC would put it outside the years that Python has.
    """
    try:
        return in_utc(given if given.tzinfo is not None else given.replace(tzinfo=UTC))
    except ValueError as error:
        raise typer.BadParameter(f"{error}.", param_hint=option) from None


def uuid7() -> str:
    """A UUID that sorts by the time it was made (RFC 9562, 5.7)."""
    milliseconds = time.time_ns() // 1_000_000
    number = milliseconds << 80 | 7 << 76 | randbits(12) << 64 | 0b10 << 62 | randbits(62)
    return str(uuid.UUID(int=number))
