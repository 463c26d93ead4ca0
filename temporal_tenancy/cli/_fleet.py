"""The stores of an application, for one command that migrates them or says how far they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

import typer

from temporal_tenancy.cli.program import Application
from temporal_tenancy.core.migration_environment import LIBRARY
from temporal_tenancy.postgres.connections import connect
from temporal_tenancy.postgres.database_errors import DatabaseProblem
from temporal_tenancy.postgres.installation import Installation
from temporal_tenancy.postgres.migrations import revisions_at
from temporal_tenancy.postgres.schema_in_use import schema_in_use
from temporal_tenancy.stores.drift import declare_schema
from temporal_tenancy.stores.errors import reason_of
from temporal_tenancy.stores.given import record_versions, store_of, versions_of_given
from temporal_tenancy.stores.upgrading import UpgradedStores, upgrade_stores
from temporal_tenancy.stores.waves import (
    CANARIES,
    CANARIES_NAME,
    StoreMigration,
    Waves,
    store_migrations,
    wave_name,
    wave_of,
)

OWN_URL: Final = "Migrate it with its owner's URL, which is kept nowhere."


def waves_of(
    canaries: str | None, sizes: str | None, failures: int | None, connections: int | None
) -> Waves:
    """Returns how stores are migrated, from the options; None: the default.

    Raises `BadParameter` for sizes that are no numbers of 1 or more.
    """
    given: dict[str, Any] = {"failures": failures, "connections": connections}
    if canaries is not None:
        given["canaries"] = tuple(filter(None, map(str.strip, canaries.split(","))))
    if sizes is not None:
        numbers = [size.strip() for size in sizes.split(",")]
        if not all(size.isascii() and size.isdigit() and int(size) for size in numbers):
            raise typer.BadParameter(
                "give whole numbers of 1 or more, such as 10,50,250.", param_hint="--wave-sizes"
            )
        given["sizes"] = tuple(map(int, numbers))
    return Waves(**{name: value for name, value in given.items() if value is not None})


@dataclass(frozen=True)
class Chosen:
    """The part of a migration that a call does."""

    wave: int | None  # None: all
    has_canaries: bool  # which lack migrations
    exists: bool = True  # whether a store is in that wave


@dataclass(frozen=True)
class Fleet:
    """The stores, and how they are migrated."""

    application: Application
    url: str  # of the control plane's database; its owner's to migrate
    installation: Installation
    waves: Waves
    verify: bool = False

    def stores(self, *, beside: bool = False) -> Sequence[StoreMigration]:
        """Returns how far each store is; raises for canaries that there are not."""
        with connect(self.url) as connection:
            schema = schema_in_use(connection, self.installation.schema, beside=beside)
            return store_migrations(
                connection, self.application.environments, schema=schema, waves=self.waves
            )

    def chosen(self, name: str | None, *, beside: bool = False) -> Chosen:
        """Returns what to do, before anything is changed.

        Raises `WaveUnknown` and `WaveRefused` for a wave, and as `stores()`.
        """
        stores = self.stores(beside=beside)
        has_canaries = any(each.is_behind and each.wave == CANARIES for each in stores)
        if name is None:
            return Chosen(None, has_canaries)
        wave = wave_of(name, stores)
        return Chosen(wave, has_canaries, exists=any(each.wave == wave for each in stores))

    def migrated(
        self,
        chosen: Chosen,
        *,
        control_plane: Callable[[], None],
        everything: Callable[[], None],
    ) -> tuple[UpgradedStores, bool]:
        """Migrates, and returns what became of the stores, and whether shared tables were reached.

        Args:
            chosen: what to do.
            control_plane: migrates the library's tables alone.
            everything: also the application's, in the shared store.
        """
        first = UpgradedStores()
        if chosen.wave == CANARIES or (chosen.wave is None and chosen.has_canaries):
            control_plane()
            first = self._upgrade(CANARIES_NAME)
            if first.left:
                return replace(first, halted=CANARIES_NAME), False
            if chosen.wave == CANARIES:
                return first, False
        everything()
        named = chosen.wave is not None and chosen.exists
        rest = self._upgrade(wave_name(chosen.wave or CANARIES) if named else None)
        both = {*first.migrated, *rest.migrated}
        kept = tuple(name for name in rest.up_to_date if name not in both)
        return replace(rest, migrated=tuple(sorted(both)), up_to_date=kept), True

    def _upgrade(self, wave: str | None) -> UpgradedStores:
        return upgrade_stores(
            self.url,
            application=self.application.environments,
            installation=self.installation,
            waves=self.waves,
            wave=wave,
            verify=self.verify,
        )

    async def given(self, names: Sequence[str]) -> list[str]:
        """Asks the databases that were given, tells the control plane, and returns what to say."""
        if not names:
            return []
        asked = await versions_of_given(
            names,
            self.application.environments,
            self.application.connections,
            installation=self.installation,
        )
        found = {name: each for name, each in asked.items() if not isinstance(each, str)}
        record_versions(self.url, found, installation=self.installation)
        lacking = {each.name: each.lacks for each in self.stores() if each.is_behind}
        lines = []
        for name, answer in asked.items():
            if isinstance(answer, str):
                lines.append(f"Not looked at: {name} ({answer}). {OWN_URL}")
            elif name in lacking:
                lines.append(f"{name} is behind: {'; '.join(lacking[name])}. {OWN_URL}")
        return lines

    def store_itself(self) -> str | None:
        """Returns the store of another control plane that the database is; None if it is none."""
        with connect(self.url) as owner:
            return store_of(owner)

    def known_elsewhere(self) -> list[str]:
        """Tells the control plane if the database that was migrated is a store of another one."""
        name = self.store_itself()
        platform = self.application.platform.url
        if name is None or platform is None:
            return []
        environments = (*LIBRARY, *self.application.environments)
        known = 0
        with suppress(DatabaseProblem):
            versions = revisions_at(self.url, environments, installation=self.installation)
            known = record_versions(platform, {name: versions}, installation=self.installation)
        if known:
            return [f"The control plane knows that the store {name} is migrated."]
        return [
            f"This is the store {name}, and no control plane was told. The next migration of the "
            "control plane asks it."
        ]

    def undeclared(self) -> str | None:
        """Writes down what the migrations make; returns what to say if that cannot be found out."""
        try:
            declare_schema(
                self.url,
                application=self.application.environments,
                installation=self.installation,
            )
        except Exception as error:  # a migration is the application's code
            return (
                "What the migrations make is not known, so nobody can say which stores differ: "
                f"{reason_of(error)}."
            )
        return None
