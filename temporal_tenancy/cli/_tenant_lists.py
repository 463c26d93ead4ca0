"""Parses lists of tenants."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from temporal_tenancy.core.identifiers import tenant_id


def tenant_ids(text: str) -> Sequence[str]:
    """Returns the ids in `a,b`, each once and in order.

    Raises `typer.BadParameter` if there is none, and `TenantInvalid` for what is no id.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise typer.BadParameter(
            'it is one or more tenants, such as "a,b".', param_hint="--tenants"
        )
    return list(dict.fromkeys(map(tenant_id, names)))
