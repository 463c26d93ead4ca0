"""The doctor's checks of stores: their preparation and migrations, and tables of neither."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import psycopg
from sqlalchemy.exc import SQLAlchemyError

from temporal_tenancy.cli._fleet import OWN_URL, Fleet
from temporal_tenancy.cli._not_reachable import NotReachable
from temporal_tenancy.cli._server_access import control_plane
from temporal_tenancy.cli._verdicts import Check, failed, ok, skipped, warning
from temporal_tenancy.cli.answers import minute, number
from temporal_tenancy.cli.program import Application, current_application, quoted
from temporal_tenancy.control_plane.tables import StoreState
from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.stores import SHARED_STORE, Isolation
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database_errors import DatabaseProblem
from temporal_tenancy.postgres.migrations import revisions_in
from temporal_tenancy.postgres.schema_in_use import schema_in_use
from temporal_tenancy.stores.drift import (
    Drift,
    compared,
    declared,
    is_ahead,
    objects_in,
    schema_of,
    version_tables,
)
from temporal_tenancy.stores.errors import reason_at_store, reason_of
from temporal_tenancy.stores.given import versions_of_given
from temporal_tenancy.stores.registry import Stores
from temporal_tenancy.stores.secrets import PLATFORM, secret_name
from temporal_tenancy.stores.waves import StoreMigration, Waves

SHOWN: Final = 10  # stores that are listed
AT_ONCE: Final = 8  # databases that are asked at the same time

_NAMES: Final = ("stores", "drift")
_NEWER: Final = "it has migrations of a newer release than this program."


async def store_checks() -> Sequence[Check]:
    """Checks that each store has all migrations, and the tables that they make."""
    application = current_application()
    url = application.platform.url
    if url is None:
        return skipped(_NAMES, f"{application.platform.setting} is not set.")
    try:
        fleet = Fleet(application, url, application.installation, Waves())
        stores = await asyncio.to_thread(fleet.stores)
        return [
            *await _preparation(),
            await _migrations(application, stores),
            await _drift(application, url, [each for each in stores if not each.is_behind]),
        ]
    except (DatabaseProblem, ConfigurationError, psycopg.Error) as error:
        return skipped(_NAMES, f"the stores cannot be read ({reason_of(error)}).")


async def _preparation() -> Sequence[Check]:
    """Names the stores that nobody can get yet; nothing if there is none."""
    try:
        async with control_plane() as database:
            stores = await Stores(database).list(state=StoreState.PREPARING)
    except (NotReachable, DatabaseProblem, SQLAlchemyError):
        return []  # another check says so
    if not stores:
        return []
    found = [
        f"{store.name}, {store.isolation}, since {minute(store.state_since)}." for store in stores
    ]
    begin = number(len(stores), "store takes", "stores take")
    ending = (
        f"{quoted('stores add STORE')} goes on with one, {quoted('stores remove STORE')} drops it."
    )
    message = f"{begin} no tenant yet: the preparation goes on, or has failed."
    return [warning("stores being prepared", _listed(message, found, ending))]


async def _migrations(application: Application, stores: Sequence[StoreMigration]) -> Check:
    if not stores:
        return ok("stores", "all tenants share one store.")
    asked = await versions_of_given(
        [store.name for store in stores if store.given],
        application.environments,
        application.connections,
        installation=application.installation,
    )
    behind = [_behind(store, asked) for store in stores if store.is_behind]
    if not behind:
        return ok("stores", f"{number(len(stores), 'store has', 'stores have')} all migrations.")
    ending = f"{quoted('migrate --status')} shows all, {quoted('migrate')} migrates them."
    if all(store.given for store in stores if store.is_behind):
        ending = f"{quoted('migrate --status')} shows all."
    return failed("stores", _listed("their tenants' jobs wait for migrations:", behind, ending))


def _behind(store: StoreMigration, asked: Mapping[str, Mapping[str, str] | str]) -> str:
    answer = asked.get(store.name)
    why = answer if isinstance(answer, str) else store.failure
    tenants = f" ({', '.join(store.tenants)})" if store.tenants else ""
    what = f" {OWN_URL}" if store.given else ""
    return f"{store.name}{tenants}: {'; '.join(store.lacks)}{f' ({why})' if why else ''}.{what}"


async def _drift(application: Application, url: str, stores: Sequence[StoreMigration]) -> Check:
    if not application.environments:
        return skipped(["drift"], "the application has no migrations of its own.")[0]
    ahead = {store.name for store in stores if is_ahead(store.versions, application.environments)}
    stores = [store for store in stores if store.name not in ahead]
    silent = [f"{name} was not looked at: {_NEWER}" for name in sorted(ahead)]
    known = await asyncio.to_thread(_in_this_database, application, url, stores, silent)
    if known is None:
        return skipped(
            ["drift"], f"what the migrations make is not known. {quoted('migrate')} finds it out."
        )[0]
    made, found = known
    databases = [store.name for store in stores if store.isolation is Isolation.DATABASE]
    gate = asyncio.Semaphore(AT_ONCE)

    async def ask(name: str) -> None:
        async with gate:
            try:
                assert application.connections is not None
                there = await application.connections.url(secret_name(name, PLATFORM))
                found[name] = await asyncio.to_thread(_elsewhere, application, there, made)
            except (DatabaseProblem, ConfigurationError, psycopg.Error) as error:
                silent.append(f"{name} was not looked at: {reason_at_store(error)}.")

    if application.connections is not None:
        await asyncio.gather(*map(ask, databases))
    differing = [f"{name} {drift}." for name, drift in sorted(found.items()) if drift]
    if differing:
        return failed(
            "drift", _listed("tables differ from what the migrations make:", [*differing, *silent])
        )
    if silent:
        return warning("drift", _listed("not every store was compared:", silent))
    return ok("drift", "every store has the tables that the migrations make.")


def _in_this_database(
    application: Application, url: str, stores: Sequence[StoreMigration], silent: list[str]
) -> tuple[Sequence[str], dict[str, Drift]] | None:
    """Returns what is declared, and how the shared store and the schemas differ from it.

    If the shared store cannot be compared, `silent` gets a line that says why.
    """
    environments = application.environments
    schemas = [store.name for store in stores if store.isolation is Isolation.SCHEMA]
    without = version_tables(environments)
    with connect(url) as connection:
        schema = schema_in_use(connection, application.installation.schema)
        made = declared(connection, environments, schema=schema)
        if made is None:
            return None
        shared = schema_of(connection, environments)
        if shared is not None:
            at = {each.name: revisions_in(connection, [shared], each) for each in environments}
            versions = {name: found[shared] for name, found in at.items() if found}
            if is_ahead(versions, environments):
                silent.append(f"the {SHARED_STORE} store was not looked at: {_NEWER}")
                shared = None
        objects = objects_in(connection, [*schemas, *([shared] if shared else [])], without)
    found = {name: compared(made, objects[name]) for name in schemas}
    if shared is not None:
        found[f"the {SHARED_STORE} store"] = compared(made, objects[shared], shared=True)
    return made, found


def _elsewhere(application: Application, url: str, made: Sequence[str]) -> Drift:
    environments = application.environments
    with connect(url) as connection:
        schema = schema_of(connection, environments)
        if schema is None:
            return compared(made, ())
        objects = objects_in(connection, [schema], version_tables(environments))
    return compared(made, objects[schema], shared=True)


def _listed(beginning: str, findings: Sequence[str], ending: str = "") -> str:
    """Returns the findings, one a line, between two lines of their own."""
    more = len(findings) - SHOWN
    shown: Iterator[str] = iter([*findings[:SHOWN], *([f"and {more:,} more."] if more > 0 else [])])
    return "\n".join(line for line in (beginning, *shown, ending) if line)
