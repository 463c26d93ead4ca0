"""Names the tenant that a mistyped id is nearest to."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Final

from temporal_tenancy.core.directory import TenantDirectory, TenantStatus, pages
from temporal_tenancy.core.errors import TenantUnknown
from temporal_tenancy.core.nearest import nearest

MOST: Final = 10_000  # tenants to compare with; an application's directory may have millions

_UNKNOWN: Final = re.compile(r"(?P<sentence>there is no tenant (?P<tenant>[A-Za-z0-9_-]+)\.)")


async def with_nearest(error: TenantUnknown, directory: TenantDirectory) -> TenantUnknown:
    """Returns the error with the question for the nearest id, or the same error."""
    match, found = _UNKNOWN.match(error.message), await nearest_tenant(error, directory)
    if match is None or found is None:
        return error
    mistyped = match["tenant"]
    only_case = " It differs only by case." if found.casefold() == mistyped.casefold() else ""
    return TenantUnknown(f'{match["sentence"]} Did you mean "{found}"?{only_case}')


async def nearest_tenant(error: TenantUnknown, directory: TenantDirectory) -> str | None:
    """Returns the id that is nearest to the one that the error names; None if none is like it."""
    match = _UNKNOWN.match(error.message)
    if match is not None:
        # An application's directory may raise anything, and this is a help.
        with suppress(Exception):
            return await _nearest(match["tenant"], directory)
    return None


async def _nearest(mistyped: str, directory: TenantDirectory) -> str | None:
    # Asked for by name: the tenant may be beyond the pages that are read.
    for tenant in await directory.find_many(_other_cases(mistyped)):
        return tenant.id
    ids: list[str] = []
    async for page in pages(directory, statuses=tuple(TenantStatus)):
        ids += [tenant.id for tenant in page]
        if len(ids) >= MOST:
            break
    return nearest(mistyped, ids)


def _other_cases(mistyped: str) -> set[str]:
    """Returns the id in the cases that ids of other services have, such as org_01HX."""
    prefix, mark, rest = mistyped.rpartition("_")
    ways = {f"{prefix.lower()}{mark}{rest.upper()}", mistyped.lower(), mistyped.upper()}
    return ways - {mistyped}
