"""Prepares and removes stores, as the databases' owner, with Alembic."""

from __future__ import annotations

import os

import typer

from temporal_tenancy.cli._arguments import one_of
from temporal_tenancy.cli._not_reachable import SettingMissing
from temporal_tenancy.cli.answers import Answer, say
from temporal_tenancy.cli.program import Application, current_application
from temporal_tenancy.core.stores import Isolation
from temporal_tenancy.postgres.secret_texts import hidden
from temporal_tenancy.stores.preparation import Preparation


async def add(
    name: str | None, isolation: str | None, *, region: str | None, count: int, variable: str | None
) -> Answer:
    """Prepares stores, one after the other; an error keeps those before it.

    Raises:
        NotReachable: a URL is not set that is needed, or a server does not answer.
        StoreRefused, StoreExists: the store cannot be made like that.
        StorePreparationFailed: a migration failed, or the owner lacks a right.
    """
    wanted = None if isolation is None else one_of(Isolation, isolation, "--isolation")
    if count > 1 and (name is not None or variable is not None):
        raise typer.BadParameter(
            "several stores have no name or database in common.", param_hint="--count"
        )
    application = current_application()
    preparation = _preparation(application)
    at = None if variable is None else _url(variable)
    made: list[str] = []
    with application.reaching():
        if wanted is None:  # one that is being prepared goes on as it began
            begun = None if name is None else preparation.begun(name)
            wanted = begun or Isolation.SCHEMA
        for number in range(count):
            made.append(preparation.prepare(wanted, name=name, region=region, at=at))
            if count > 1:
                say(f"Prepared {number + 1:,} of {count:,}.")
    text = f"Prepared {', '.join(made)}." if count <= 5 else f"Prepared {count:,} stores."
    return Answer([{"name": each, "isolation": wanted, "region": region} for each in made], text)


async def remove(name: str) -> Answer:
    """Drops a store without tenants; raises `StoreUnknown`, `StoreInUse` and `NotReachable`."""
    application = current_application()
    preparation = _preparation(application)
    with application.reaching():
        preparation.remove(name)
    return Answer({"removed": name}, f"{name} is removed.")


def _preparation(application: Application) -> Preparation:
    owner = application.owner
    if owner.url is None:
        sentence = f"{owner.setting} is not set. {owner.how or application.how_to_start}"
        raise SettingMissing(sentence.rstrip())
    return Preparation(
        owner.url,
        application=application.environments,
        installation=application.installation,
        tenant_url=application.tenant.url,
        platform_url=application.platform.url,
        relay_url=application.relay.url,
        secrets=application.connections,
    )


def _url(variable: str) -> str:
    url = os.environ.get(variable)
    if not url:
        raise typer.BadParameter(
            f"the variable {variable} is not set.", param_hint="--database-url-from"
        )
    return hidden(url)
