"""When a tenant's job is due: in its own time zone, and spread over a window by its id."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from temporal_tenancy.core.cron import read_cron
from temporal_tenancy.core.display import quoted
from temporal_tenancy.core.errors import TenancyError
from temporal_tenancy.core.instants import FURTHEST
from temporal_tenancy.core.periods import Period

SPREAD_STEPS: Final = 360  # start times per window at most; each costs a shard one timer

EARLIEST: Final = timedelta(hours=14)
"""How long before UTC a date begins in the easternmost time zone (UTC+14)."""


_NO_ZONES: Final = frozenset({"Factory", "localtime", "posixrules"})
_NO_FOLDERS: Final = ("posix/", "right/", "SystemV/")


class TimeZoneUnknown(TenancyError):
    """There is no time zone of that name, or not every part of the system knows the name."""


def zone_of(name: str) -> ZoneInfo:
    """Returns the time zone of an IANA name.

    Names that exist only as files on this machine (`posix/Asia/Bangkok`, `localtime`) do not
    count: fan-outs enumerate the zones, and PostgreSQL must know the name too.

    Raises:
        TimeZoneUnknown: `name` is not one of `zone_names()`.
    """
    if name not in zone_names():
        raise TimeZoneUnknown(
            f"there is no time zone {quoted(name)}. Use an IANA name, such as America/New_York."
        )
    return ZoneInfo(name)


@cache
def zone_names() -> Set[str]:
    """Returns the IANA names that a tenant's time zone can have."""
    return frozenset(
        name
        for name in available_timezones()
        if name not in _NO_ZONES and not name.startswith(_NO_FOLDERS)
    )


def times(cron: str, since: datetime, until: datetime) -> Iterator[datetime]:
    """Yields the times of a five-field cron line from `since` until before `until`.

    Args:
        cron: as for `read_cron`.
        since: aware (in UTC) or naive (a tenant's wall clock). The times are of the same kind.
        until: of the same kind as `since`.

    Raises:
        CronInvalid: the line cannot be read.
    """
    return read_cron(cron).times(since, until)


def instant(local: datetime, zone: ZoneInfo) -> datetime:
    """Returns the instant (aware, in UTC) at which a wall clock in `zone` shows `local` (naive).

    If the clock shows the time twice, because daylight saving ends, this is the first instant. If
    the clock skips the time, because daylight saving begins, the offset from before the change
    applies (PEP 495, fold 0). So each local time has exactly one instant, and a job that is due
    then runs exactly once.
    """
    return local.replace(tzinfo=zone, fold=0).astimezone(UTC)


def due_between(
    cron: str,
    period: Period,
    since: datetime,
    until: datetime,
    *,
    zones: Sequence[str] | None = None,
) -> Mapping[str, Mapping[str, datetime]]:
    """Returns when a tenant-local job is due in each time zone from `since` until before `until`.

    Args:
        cron: as for `read_cron`, in each tenant's own time.
        period: the period that one run of the job covers.
        since: aware.
        until: aware.
        zones: IANA names; None means all of `zone_names()`.

    Returns:
        For each period key, the instant (aware, in UTC) by time zone name. One call can return two
        keys, because two dates are in use on earth at the same time.

    Raises:
        CronInvalid: the line cannot be read.
    """
    local = (since.astimezone(UTC).replace(tzinfo=None), until.astimezone(UTC).replace(tzinfo=None))
    found: defaultdict[str, dict[str, datetime]] = defaultdict(dict)
    names = _zones() if zones is None else zones
    for moment in times(cron, local[0] - FURTHEST, local[1] + FURTHEST):
        key = period.key_before(moment)
        for name in names:
            due = instant(moment, ZoneInfo(name))
            if since <= due < until:
                found[key][name] = due
    return found


@lru_cache
def due_of_key(cron: str, period: Period, key: str) -> datetime | None:
    """Returns the local time (naive) at which the run for the period `key` is due, or None."""
    first, last = period.due_between(key)
    return next(times(cron, first, last), None)


def spread_offset(tenant_id: str, job: str, window: timedelta) -> timedelta:
    """Returns how far into `window` a tenant's job starts: the same for a tenant and job each time.

    Offsets are spread evenly and in no order: SHA-256 of both names picks one of at most
    `SPREAD_STEPS` steps, rounded down to whole seconds.
    """
    if not window:
        return timedelta()
    steps = min(SPREAD_STEPS, max(1, int(window.total_seconds())))
    digest = hashlib.sha256(f"{job}\0{tenant_id}".encode()).digest()
    step = int.from_bytes(digest[:8], "big") * steps >> 64
    return timedelta(seconds=int(window.total_seconds() * step / steps))


@cache
def _zones() -> Sequence[str]:
    return sorted(zone_names())
