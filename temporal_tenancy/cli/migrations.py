"""Migrates the database, and shows or takes away what every role of the server may do in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from typing import Any, Final

from temporal_tenancy.cli._fleet import Fleet
from temporal_tenancy.cli._not_reachable import SettingMissing
from temporal_tenancy.cli._server_access import environments
from temporal_tenancy.cli.answers import Answer, Problem, number
from temporal_tenancy.cli.program import Application, Login, current_application, quoted
from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.hardening import Opening, openings
from temporal_tenancy.postgres.installation import Installation
from temporal_tenancy.postgres.migrations import migrate, pending
from temporal_tenancy.postgres.moving import (
    drop_views,
    move,
    places_of,
    source_of_move,
    views_of_old_names,
)
from temporal_tenancy.postgres.roles import RoleUrlWrong
from temporal_tenancy.stores.upgrading import UpgradedStores
from temporal_tenancy.stores.waves import Waves

_WITHOUT_URL: Final = (
    "A role whose URL you do not give keeps its password; a new one cannot log in until it has one."
)


async def migrate_all(
    *,
    harden: bool = False,
    beside: bool = False,
    installation: Installation | None = None,
    waves: Waves | None = None,
    wave: str | None = None,
    verify: bool = False,
) -> Answer:
    """Creates the roles, the control plane and the tenants' tables that are missing, in stores too.

    The canaries' stores come before the shared tables of tenants, and these before other stores. A
    store whose migrations fail stays as it was, and the answer has a problem. A database that is a
    store itself is migrated, and its roles keep their passwords.

    Args:
        harden: also take away what every role of the server may do in the database.
        beside: make a second installation if another schema has one.
        installation: None: the application's.
        waves: how stores are migrated; None: the defaults.
        wave: `canaries`, the number of a wave, or `next`: no stores but its; None: all.
        verify: ask each database store, in place of the control plane, which migrations it has.

    Raises:
        NotReachable: a URL is not set that is needed, or its server does not answer.
        ConfigurationError: a URL logs in as the wrong role, or the owner lacks a right.
        ExcessRights: a runtime role has rights that it must not have.
        InstallationElsewhere: another schema has the tables, and `beside` is not set.
        TenantUnknown, StoreRefused, WaveRefused, WaveUnknown: a canary or the wave is not one that
            there is, or not now.
    """
    application = current_application()
    installation = installation or application.installation
    owner = _owner(application)
    logins = (application.tenant, application.platform, application.relay)
    without = any(login.url is None and not login.needed for login in logins)
    with application.reaching(), _naming_settings(application):
        behind = pending(owner, environments(application), installation=installation, beside=beside)
        found = _openings(application, owner) if harden else []
        fleet = Fleet(application, owner, installation, waves or Waves(), verify=verify)
        chosen = fleet.chosen(wave, beside=beside)
        # In a store of another control plane the roles have passwords of their own.
        is_store = fleet.store_itself() is not None
        run = partial(
            migrate,
            owner,
            tenant_url=None if is_store else _required(application, application.tenant),
            platform_url=None if is_store else _required(application, application.platform),
            relay_url=None if is_store else application.relay.url,
            installation=installation,
            beside=beside,
        )
        stores, is_whole = fleet.migrated(
            chosen,
            control_plane=partial(run, application=()),
            everything=partial(run, application=application.environments, harden=harden),
        )
        given = await fleet.given(stores.given)
        known = fleet.known_elsewhere()
        undeclared = fleet.undeclared() if is_whole else None
    text = "The database is migrated." if behind else "The database was up to date."
    if not is_whole:
        text = "The control plane is migrated, and the shared tables of tenants are as they were."
    text = "\n".join([text, *_told(stores), *given, *known])
    if undeclared is not None:
        text = f"{text}\n{undeclared}"
    if without and not is_store:
        text = f"{text}\n{_WITHOUT_URL}"
    document: dict[str, Any] = {
        "migrated": bool(behind),
        "were_behind": list(map(str, behind)),
        "stores": asdict(stores),
    }
    if harden:
        text = "\n".join([text, *(f"Done: {opening.revoke}." for opening in found)])
        document |= {"hardened": bool(found), "open": _documents(found)}
    return Answer(document, text, _problem(stores))


def _told(stores: UpgradedStores) -> Iterator[str]:
    """Yields the lines about stores, if there are any."""
    if stores.migrated:
        yield f"Migrated {number(len(stores.migrated), 'store')}."
    if stores.up_to_date:
        yield f"Up to date: {number(len(stores.up_to_date), 'store')}."
    for store in stores.left:
        yield f"{store.name} is as it was: {store.reason}."
    if stores.waiting:
        yield f"In waves that have not begun: {number(len(stores.waiting), 'store')}."


def _problem(stores: UpgradedStores) -> Problem | None:
    if not stores.left:
        return None
    left = number(len(stores.left), "store")
    halted = f" The waves after {stores.halted} have not begun." if stores.halted else ""
    return Problem(
        "StoreBehind",
        f"{left} could not be migrated, and stayed as before.{halted} Mend what failed, and run "
        f"{quoted('migrate')} again.",
    )


async def show_openings() -> Answer:
    """Lists what `migrate_all(harden=True)` would take away, and changes nothing.

    Raises `NotReachable` if the owner's URL is not set, or its server does not answer.
    """
    application = current_application()
    owner = _owner(application)
    with application.reaching():
        found = _openings(application, owner)
    document = {"hardened": False, "open": _documents(found)}
    if not found:
        return Answer(document, "There is nothing to take away.")
    lines = [f"{str(opening)[0].upper()}{str(opening)[1:]}" for opening in found]
    ending = f"Nothing was changed. {quoted('migrate --harden --yes')} migrates and takes it away."
    return Answer(document, "\n".join([*lines, ending]))


def _openings(application: Application, owner_url: str) -> list[Opening]:
    with connect(owner_url) as owner:
        return openings(owner, application.installation.roles)


def _documents(found: Sequence[Opening]) -> list[dict[str, Any]]:
    return [
        {"right": opening.right, "revoke": opening.revoke, "roles": list(opening.roles)}
        for opening in found
    ]


async def migrate_and_move() -> Answer:
    """Migrates as `migrate_all()`, and moves the library's tables to its schema.

    Raises as `migrate_all()`, and `MigrationBlocked` if the tables were in use on every try.
    """
    application = current_application()
    owner = _owner(application)
    schema = application.installation.schema
    with application.reaching(), connect(owner) as connection:
        source = source_of_move(connection, schema) or schema
    migrated = await migrate_all(installation=replace(application.installation, schema=source))
    with application.reaching():
        moved = move(owner, installation=application.installation)
        with connect(owner) as connection:
            views = views_of_old_names(connection, schema)
    text = f"The library's tables are in the schema {schema}."
    if views:
        text += (
            f" Processes that know the old names use them through views in {places_of(views)}. "
            f"When none runs any more, and the others have been restarted, "
            f"{quoted('migrate --move --finish')} drops the views."
        )
    document = {**migrated.document, "moved": moved, "schema": schema, "views": views}
    return Answer(document, f"{migrated.text}\n{text}", migrated.problem)


async def finish_move() -> Answer:
    """Drops the views that a move left under the old names.

    Raises:
        NotReachable: the owner's URL is not set, or its server does not answer.
        ConfigurationError: objects of the application depend on the views.
        MigrationBlocked: the views were in use on every try.
    """
    application = current_application()
    owner = _owner(application)
    with application.reaching():
        dropped = drop_views(owner, installation=application.installation)
    text = f"Dropped the views {', '.join(dropped)}." if dropped else "There was no view to drop."
    return Answer({"dropped": dropped}, text)


@contextmanager
def _naming_settings(application: Application) -> Iterator[None]:
    """Names the setting of a role whose URL is wrong."""
    try:
        yield
    except RoleUrlWrong as error:
        logins = (application.tenant, application.platform, application.relay)
        settings = dict(zip(application.installation.roles, logins, strict=True))
        raise ConfigurationError(f"{settings[error.role].setting}: {error}") from None


def _owner(application: Application) -> str:
    return _required(application, application.owner) or ""


def _required(application: Application, login: Login) -> str | None:
    if login.url is None and login.needed:
        sentence = f"{login.setting} is not set. {login.how or application.how_to_start}"
        raise SettingMissing(sentence.rstrip())
    return login.url
