"""Prepares, shows, drains and removes stores."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import Any, TypeVar

import typer
from rich.console import RenderableType

from temporal_tenancy.cli._not_reachable import SettingMissing
from temporal_tenancy.cli._server_access import control_plane
from temporal_tenancy.cli.answers import Answer, facts, lines, minute, say, table
from temporal_tenancy.cli.program import Application, current_application, quoted
from temporal_tenancy.control_plane.tables import StoreState
from temporal_tenancy.core.stores import Isolation
from temporal_tenancy.postgres.secret_texts import hidden
from temporal_tenancy.stores.preparation import Preparation
from temporal_tenancy.stores.registry import KnownStore, Stores

Member = TypeVar("Member", bound=StrEnum)


async def add(
    name: str | None, isolation: str, *, region: str | None, count: int, variable: str | None
) -> Answer:
    """Prepares stores, one after the other; an error keeps those before it.

    Raises:
        NotReachable: a URL is not set that is needed, or a server does not answer.
        StoreRefused, StoreExists: the store cannot be made like that.
        StorePreparationFailed: a migration failed, or the owner lacks a right.
    """
    wanted = one_of(Isolation, isolation, "--isolation")
    if count > 1 and (name is not None or variable is not None):
        raise typer.BadParameter(
            "several stores have no name or database in common.", param_hint="--count"
        )
    application = current_application()
    preparation = _preparation(application)
    at = None if variable is None else _url(variable)
    made: list[str] = []
    with application.reaching():
        for number in range(count):
            made.append(preparation.prepare(wanted, name=name, region=region, at=at))
            if count > 1:
                say(f"Prepared {number + 1:,} of {count:,}.")
    text = f"Prepared {', '.join(made)}." if count <= 5 else f"Prepared {count:,} stores."
    return Answer([{"name": each, "isolation": wanted, "region": region} for each in made], text)


async def show_all(isolation: str | None, state: str | None) -> Answer:
    """Lists the stores, or those of an isolation or a state."""
    wanted = None if isolation is None else one_of(Isolation, isolation, "--isolation")
    in_state = None if state is None else one_of(StoreState, state, "--state")
    async with control_plane() as database:
        stores = await Stores(database).list(isolation=wanted, state=in_state)
    rows = [
        (store.name, store.isolation, store.state, store.region, ", ".join(store.tenants))
        for store in stores
    ]
    empty = "There are no such stores." if wanted or in_state else "All tenants share one store."
    return Answer(
        [_document(store) for store in stores],
        table(("store", "isolation", "state", "region", "tenants"), rows, empty=empty),
    )


async def show(name: str) -> Answer:
    """Shows one store; raises `StoreUnknown`."""
    async with control_plane() as database:
        store = await Stores(database).show(name)
    return Answer(_document(store), _text(store))


async def drain(name: str) -> Answer:
    """Lets a store take no more tenants; raises `StoreUnknown` and `StoreNotReady`."""
    async with control_plane() as database:
        store = await Stores(database).drain(name)
    stay = f"Its tenants stay: {', '.join(store.tenants)}." if store.tenants else None
    if stay is None:
        stay = f"{quoted(f'stores remove {store.name}')} drops it."
    return Answer(_document(store), lines(f"{store.name} takes no more tenants.", stay))


async def remove(name: str) -> Answer:
    """Drops a store without tenants; raises `StoreUnknown`, `StoreInUse` and `NotReachable`."""
    application = current_application()
    preparation = _preparation(application)
    with application.reaching():
        preparation.remove(name)
    return Answer({"removed": name}, f"{name} is removed.")


def one_of(kind: type[Member], text: str, option: str) -> Member:
    """Returns the member of `kind` that an option names; raises `typer.BadParameter`."""
    try:
        return kind(text)
    except ValueError:
        known = ", ".join(member.value for member in kind)
        raise typer.BadParameter(f"{text!r} is none of {known}.", param_hint=option) from None


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


def _text(store: KnownStore) -> RenderableType:
    return facts(
        [
            ("store", store.name),
            ("isolation", store.isolation),
            ("state", f"{store.state} since {minute(store.state_since)}"),
            ("schema", store.schema),
            ("connections", store.secret),
            ("region", store.region),
            ("tenants", ", ".join(store.tenants) or None),
        ]
    )


def _document(store: KnownStore) -> dict[str, Any]:
    return {
        "name": store.name,
        "isolation": store.isolation,
        "state": store.state,
        "state_since": store.state_since,
        "created_at": store.created_at,
        "schema": store.schema,
        "secret": store.secret,
        "region": store.region,
        "capacity": store.capacity,
        "tenants": list(store.tenants),
    }
