"""The keys of what processes share, each with its owner in a place of its own.

A key is `tenancy:{owner}:part:part`, where an owner is a tenant's id or `platform`, which no tenant
may be called. Each part is percent-encoded, so that no text in it is a separator, a wildcard, or
the braces by which a cluster finds the node: all of a tenant's keys are on one node.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final
from urllib.parse import quote

from temporalio import workflow

from temporal_tenancy.core.errors import ConfigurationError, ScopeMissing
from temporal_tenancy.core.identifiers import PLATFORM
from temporal_tenancy.core.scope import current_tenant

PREFIX: Final = "tenancy"
KEY_MAX_BYTES: Final = 1_000


def tenant_key(purpose: str, *parts: str) -> str:
    """Returns the current tenant's key for `parts`; no other tenant, purpose or parts have it.

    Args:
        purpose: what the key is for, such as `cache`.
        parts: any text.

    Raises:
        ScopeMissing: no tenant's scope is open, or this is workflow code.
        ConfigurationError: a part is no text, or the key is longer than 1,000 bytes.
    """
    refuse_workflow_code()
    return _key(current_tenant(), purpose, parts)


def platform_key(purpose: str, *parts: str) -> str:
    """Returns a key that all tenants share; nothing of a tenant's may be kept under it.

    Raises:
        ScopeMissing: this is workflow code.
        ConfigurationError: as for `tenant_key`.
    """
    refuse_workflow_code()
    return _key(PLATFORM, purpose, parts)


def encoded(parts: tuple[str, ...]) -> str:
    """Returns `parts` as one text; other parts give another one.

    Raises:
        ConfigurationError: a part is no text.
    """
    for part in parts:
        if not isinstance(part, str):
            raise ConfigurationError(
                f"a part of a key is text, not {type(part).__name__}. Write str(...) around it."
            )
    # What is longer than a key is refused later, and must not stay in memory.
    return ":".join(
        [_quoted(part) if len(part) < KEY_MAX_BYTES else _quote(part) for part in parts]
    )


def _quote(part: str) -> str:
    return quote(part, safe="", errors="surrogatepass")


_quoted: Final = lru_cache(maxsize=1_024)(_quote)  # a read of a cache quotes its name again


def refuse_workflow_code() -> None:
    """Raises `ScopeMissing` in workflow code."""
    if workflow.in_workflow():
        raise ScopeMissing(
            "workflow code is replayed and may not use caches, locks or rates. Use them in an "
            "activity."
        )


def _key(owner: str, purpose: str, parts: tuple[str, ...]) -> str:
    key = f"{PREFIX}:{{{owner}}}:{encoded((purpose, *parts))}"
    if len(key) > KEY_MAX_BYTES:  # it is ASCII
        raise ConfigurationError(
            f"a key is at most {KEY_MAX_BYTES:,} bytes long, and this one has {len(key):,}. Use a "
            "shorter part, such as a digest."
        )
    return key
