"""Names the tenant that a mistyped id is nearest to."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Final

from temporal_tenancy.core.directory import TenantDirectory, TenantStatus, pages
from temporal_tenancy.core.errors import TenantUnknown
from temporal_tenancy.core.nearest import did_you_mean

MOST: Final = 10_000  # tenants to compare with; an application's directory may have millions

_UNKNOWN: Final = re.compile(r"(?P<sentence>there is no tenant (?P<tenant>[A-Za-z0-9_-]+)\.)")


async def with_nearest(error: TenantUnknown, directory: TenantDirectory) -> TenantUnknown:
    """Returns the error with the question for the nearest id, or the same error."""
    match = _UNKNOWN.match(error.message)
    if match is None:
        return error
    ids: list[str] = []
    with suppress(Exception):  # an application's directory may raise anything, and this is a help
        async for page in pages(directory, statuses=tuple(TenantStatus)):
            ids += [tenant.id for tenant in page]
            if len(ids) >= MOST:
                break
    question = did_you_mean(match["tenant"], ids)
    if not question:
        return error
    return TenantUnknown(f"{match['sentence']}{question}")
