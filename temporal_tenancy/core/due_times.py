"""When a tenant's turn is: at a cron line's time where the tenant is, and spread by its id."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from temporal_tenancy.core.cron import read_cron
from temporal_tenancy.core.errors import TenancyError
from temporal_tenancy.core.instants import FURTHEST
from temporal_tenancy.core.periods import Period
from temporal_tenancy.core.printable import quoted

SPREAD_STEPS: Final = 360  # so many times at most in a window: each costs a shard one timer

EARLIEST: Final = timedelta(hours=14)
"""By how much a date begins sooner than in UTC where it begins first on earth."""


_NO_ZONES: Final = frozenset({"Factory", "localtime", "posixrules"})
_NO_FOLDERS: Final = ("posix/", "right/", "SystemV/")


class TimeZoneUnknown(TenancyError):
    """There is no such time zone, or not every part of the system knows it by this name."""


def zone_of(name: str) -> ZoneInfo:
    """The time zone of an IANA name; raises `TimeZoneUnknown`.

    A name that only a file of this machine has (`posix/Asia/Bangkok`, `localtime`) is none: a
    fan-out plans the zones that it enumerates, and PostgreSQL reads the name too.
    """
    if name not in zone_names():
        raise TimeZoneUnknown(
            f"there is no time zone {quoted(name)}. Use an IANA name, such as America/New_York."
        )
    return ZoneInfo(name)


@cache
def zone_names() -> Set[str]:
    """The names of the time zones that a tenant may be in."""
    return frozenset(
        name
        for name in available_timezones()
        if name not in _NO_ZONES and not name.startswith(_NO_FOLDERS)
    )


def times(cron: str, since: datetime, until: datetime) -> Iterator[datetime]:
    """The times of a five-field cron line from `since` to before `until`, both aware or both naive.

    They are in the clock of the two: UTC's, or a tenant's wall clock. Raises `CronInvalid`.
    """
    return read_cron(cron).times(since, until)


def instant(local: datetime, zone: ZoneInfo) -> datetime:
    """The one instant (in UTC) at which a clock on the wall shows the naive `local`.

    Where daylight saving ends and the clock shows it twice, it is the first; where it begins and
    the clock leaves it out, it is as long after midnight as on other days (PEP 495, fold 0). So
    each local time has exactly one instant, and what is due at it runs exactly once.
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
    """Which time zones a tenant-local job is due in from `since` to before `until` (aware).

    Of `zones` (IANA names), or of all that there are.

    Returns, by the key of the period that it is about, the instants by time zone. At one time of
    day there may be two keys: it is two dates at once on earth.
    """
    local = (since.astimezone(UTC).replace(tzinfo=None), until.astimezone(UTC).replace(tzinfo=None))
    found: defaultdict[str, dict[str, datetime]] = defaultdict(dict)
    among = _zones() if zones is None else zones
    for moment in times(cron, local[0] - FURTHEST, local[1] + FURTHEST):
        key = period.key_before(moment)
        for name in among:
            due = instant(moment, ZoneInfo(name))
            if since <= due < until:
                found[key][name] = due
    return found


@lru_cache
def due_of_key(cron: str, period: Period, key: str) -> datetime | None:
    """The local time (naive) at which the run about the period `key` is due; None: at none."""
    first, last = period.due_between(key)
    return next(times(cron, first, last), None)


def spread_offset(tenant_id: str, job: str, window: timedelta) -> timedelta:
    """How far into `window` a tenant's turn is: always the same for a tenant and job.

    Evenly over the tenants, and in no order: SHA-256 of both, as a share of the window, which is
    cut into at most `SPREAD_STEPS` whole seconds.
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
