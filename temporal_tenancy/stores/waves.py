"""Which stores lack migrations, and in which waves they get them: the canaries, then the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from temporal_tenancy.core.display import printable
from temporal_tenancy.core.errors import ConfigurationError, TenantUnknown
from temporal_tenancy.core.migration_environment import LIBRARY, MigrationEnvironment
from temporal_tenancy.core.stores import Isolation
from temporal_tenancy.core.words import number
from temporal_tenancy.postgres.migrations import Pending, revisions_in
from temporal_tenancy.postgres.revisions import Lineage, read_lineage
from temporal_tenancy.stores import _database_stores as database_stores
from temporal_tenancy.stores.errors import StoreRefused, WaveRefused, WaveUnknown

CANARIES: Final = 0  # their wave
CANARIES_NAME: Final = "canaries"
SIZES: Final = (10, 50, 250)  # stores in the waves after the canaries; the last repeats
FAILURES: Final = 3  # stores of one wave that may fail, before the next wave begins
CONNECTIONS: Final = 9  # at once, of all processes of one call
CONNECTIONS_OF_ONE: Final = 2  # that one migration has: its turn, and its transaction

# As JSON, since an earlier release's table lacks columns. One that is being prepared gets its
# migrations when that goes on.
_STORES: Final = """
    select to_jsonb(stores), array(select id from {tenants} where store = stores.name order by id)
    from {stores} as stores where state <> 'preparing' order by name
"""
_THERE: Final = "select to_regclass(%s) is not null"
_TENANT: Final = "select store from {tenants} where id = %s"
_SAVE: Final = """
    update {stores} as stores
    set versions = new.versions, versions_at = now(), target = new.target, wave = new.wave,
        failure = new.failure
    from unnest(%(names)s::text[], %(versions)s::jsonb[], %(targets)s::text[], %(waves)s::int[],
        %(failures)s::text[]) as new (name, versions, target, wave, failure)
    where stores.name = new.name
        and (stores.versions, stores.target, stores.wave, stores.failure)
            is distinct from (new.versions, new.target, new.wave, new.failure)
"""


@dataclass(frozen=True)
class Waves:
    """How stores are migrated: who first, how many at once, and when to stop.

    Raises:
        ConfigurationError: a number is too small.
    """

    canaries: tuple[str, ...] = ()  # ids of tenants with stores of their own, or names of stores
    sizes: tuple[int, ...] = SIZES  # stores in the waves after the canaries; the last repeats
    failures: int = FAILURES  # that a wave may have, and the next still begins; canaries: none
    connections: int = CONNECTIONS  # to the server at once

    def __post_init__(self) -> None:
        if not self.sizes or min(self.sizes) < 1:
            raise ConfigurationError("a wave has at least one store. Give sizes of 1 or more.")
        if self.failures < 0:
            raise ConfigurationError("the failures of a wave cannot be less than 0.")
        if self.connections < CONNECTIONS_OF_ONE + 1:
            raise ConfigurationError(
                f"migrations need {number(CONNECTIONS_OF_ONE + 1, 'connection')} or more, not "
                f"{self.connections}: one to the control plane, and {CONNECTIONS_OF_ONE} for each "
                "store at a time."
            )

    @property
    def at_once(self) -> int:
        """How many stores are migrated at the same time."""
        return (self.connections - 1) // CONNECTIONS_OF_ONE

    def bound(self, wave: int) -> int:
        """Returns how many stores of `wave` may fail, and the next still begins."""
        return 0 if wave == CANARIES else self.failures


@dataclass(frozen=True)
class StoreMigration:
    """How far a store has been migrated."""

    name: str
    isolation: Isolation
    tenants: tuple[str, ...]  # ids
    # Its last migrations, by the environment's name; None: a database that nobody has asked.
    versions: Mapping[str, str] | None
    lacks: tuple[str, ...]  # such as "the tenants' data is at 0008, and the code needs 0009"
    wave: int | None  # of this migration; 0: the canaries; None: it lacked nothing when it began
    failure: str | None  # why the last try failed
    given: bool  # a database whose owner's URL is kept nowhere

    @property
    def is_behind(self) -> bool:
        """Whether it lacks migrations, as far as the control plane knows."""
        return bool(self.lacks)

    @property
    def state(self) -> str:
        """One of `up to date`, `behind`, `failed` and `not known`."""
        if self.versions is None:
            return "not known"
        if not self.is_behind:
            return "up to date"
        return "behind" if self.failure is None else "failed"


def wave_name(wave: int) -> str:
    """Returns what a person calls a wave: `canaries`, or its number."""
    return CANARIES_NAME if wave == CANARIES else str(wave)


def wave_of(name: str, stores: Iterable[StoreMigration]) -> int:
    """Returns the wave of that name, or for `next` the first that has stores to migrate.

    Raises:
        WaveUnknown: the migration has no such wave.
        WaveRefused: a canary is behind, and the wave is another one.
    """
    stores = list(stores)
    waves = sorted({store.wave for store in stores if store.wave is not None})
    open_ones = [each.wave for each in stores if each.is_behind and each.wave is not None]
    if name == "next":
        if CANARIES in open_ones:  # also one that has failed: nothing comes before it
            return CANARIES
        # A wave whose every store has failed is done: its stores wait until they are mended.
        left = [s.wave for s in stores if s.state == "behind" and s.wave is not None] or open_ones
        return min(left, default=max(waves, default=1))
    if name not in map(wave_name, waves):
        has = f"Its waves are {', '.join(map(wave_name, waves))}" if waves else "It has none"
        raise WaveUnknown(f"this migration has no wave {name!r}. {has}.")
    wave = next(each for each in waves if wave_name(each) == name)
    if wave != CANARIES and CANARIES in open_ones:
        raise WaveRefused(
            f"wave {name} cannot begin: a canary lacks migrations. Migrate the canaries first."
        )
    return wave


def store_migrations(
    connection: psycopg.Connection[Any],
    application: Sequence[MigrationEnvironment],
    *,
    schema: str,
    waves: Waves | None = None,
    ask_schemas: bool = True,
) -> list[StoreMigration]:
    """Returns how far each prepared store has been migrated, in order of their names.

    Schemas are asked, many in one statement. Of a database the control plane's row has what was
    last seen in it. Stores that lack something have the wave in which they get it; it is fixed once
    a migration has begun, and until then follows from `waves`. This changes nothing.

    Args:
        connection: to the control plane's database, as its owner or the platform.
        application: the environments of the application's tenant-owned tables.
        schema: of the library's tables.
        waves: None: the defaults.
        ask_schemas: False: what the control plane knows is enough.

    Raises:
        TenantUnknown: a canary is no tenant and no store.
        StoreRefused: a canary is in the shared store, or in a database of which nobody keeps the
            owner's URL.
        WaveRefused: a canary is in a later wave of a migration that has begun.
    """
    names = {name: sql.Identifier(schema, name) for name in ("stores", "tenants")}
    there = connection.execute(_THERE, [names["stores"].as_string(connection)]).fetchone()
    if there != (True,):  # the library's own migrations come first
        return []
    rows = connection.execute(sql.SQL(_STORES).format(**names)).fetchall()
    lineages = {each: read_lineage(each) for each in (*LIBRARY, *application)}
    target = _target(lineages)
    versions = _versions(connection, [row for row, _ in rows], application, ask=ask_schemas)
    databases = [row["name"] for row, _ in rows if row["isolation"] == Isolation.DATABASE]
    made = set(database_stores.made_here(connection, databases)) if databases else set()
    lacking = {
        row["name"]: _lacks(versions[row["name"]], Isolation(row["isolation"]), lineages)
        for row, _ in rows
    }
    found = [
        StoreMigration(
            name=row["name"],
            isolation=Isolation(row["isolation"]),
            tenants=tuple(tenants),
            versions=versions[row["name"]],
            lacks=lacking[row["name"]],
            wave=row.get("wave") if row.get("target") == target else None,
            failure=row.get("failure")
            if row.get("target") == target and lacking[row["name"]]
            else None,
            given=row["isolation"] == Isolation.DATABASE and row["name"] not in made,
        )
        for row, tenants in rows
    ]
    canaries = _canaries(connection, names["tenants"], found, (waves or Waves()).canaries)
    return _in_waves(found, canaries, (waves or Waves()).sizes)


def save(
    owner: psycopg.Connection[Any],
    stores: Sequence[StoreMigration],
    application: Sequence[MigrationEnvironment],
    *,
    schema: str,
) -> None:
    """Writes what was found of `stores`, and their waves, to the control plane."""
    target = _target({each: read_lineage(each) for each in (*LIBRARY, *application)})
    parameters = {
        "names": [store.name for store in stores],
        "versions": [None if s.versions is None else Jsonb(dict(s.versions)) for s in stores],
        "targets": [None if store.wave is None else target for store in stores],
        "waves": [store.wave for store in stores],
        "failures": [store.failure for store in stores],
    }
    owner.execute(
        sql.SQL(_SAVE).format(stores=sql.Identifier(schema, "stores")),
        parameters,
    )


def environments_of(
    isolation: Isolation, application: Sequence[MigrationEnvironment]
) -> Sequence[MigrationEnvironment]:
    """Returns the sets of migrations that a store of this isolation has."""
    return (*LIBRARY, *application) if isolation is Isolation.DATABASE else application


def _versions(
    connection: psycopg.Connection[Any],
    rows: Sequence[Mapping[str, Any]],
    application: Sequence[MigrationEnvironment],
    *,
    ask: bool,
) -> dict[str, Mapping[str, str] | None]:
    """Returns the last migrations of each store, by its name."""
    found: dict[str, Mapping[str, str] | None] = {row["name"]: row.get("versions") for row in rows}
    schemas = [
        row["name"]
        for row in rows
        if row["isolation"] == Isolation.SCHEMA and (ask or row.get("versions") is None)
    ]
    if not schemas:
        return found
    asked: dict[str, dict[str, str]] = {name: {} for name in schemas}
    for environment in application:
        for name, revision in revisions_in(connection, schemas, environment).items():
            asked[name][environment.name] = revision
    return found | asked


def _target(lineages: Mapping[MigrationEnvironment, Lineage]) -> str:
    """Returns what a migration brings, as text: each set's newest migration."""
    return "; ".join(f"{each.name} {lineage.newest}" for each, lineage in lineages.items())


def _lacks(
    versions: Mapping[str, str] | None,
    isolation: Isolation,
    lineages: Mapping[MigrationEnvironment, Lineage],
) -> tuple[str, ...]:
    behind = []
    for environment, lineage in lineages.items():
        at = (versions or {}).get(environment.name)
        is_beside = isolation is not Isolation.DATABASE and environment in LIBRARY
        if not is_beside and not lineage.has(at):
            pending = Pending(environment, at, lineage.newest)
            behind.append(str(pending))
    return tuple(behind)


def _canaries(
    connection: psycopg.Connection[Any],
    tenants: sql.Identifier,
    stores: Sequence[StoreMigration],
    named: Sequence[str],
) -> set[str]:
    """Returns the names of the stores of the canaries."""
    known = {store.name: store for store in stores}
    chosen = set()
    for name in named:
        row = connection.execute(sql.SQL(_TENANT).format(tenants=tenants), [name]).fetchone()
        if row is None and name not in known:
            raise TenantUnknown(
                f"the canary {printable(name)} is no tenant and no store. Name one that there is."
            )
        store = name if row is None else row[0]
        if store is None:
            raise StoreRefused(
                f"the canary {name} is in the shared store, which is migrated as a whole. Name "
                "tenants with stores of their own."
            )
        if store not in known or known[store].given:
            raise StoreRefused(
                f"the canary {name} is in a store that this call does not migrate. Name another."
            )
        chosen.add(store)
    return chosen


def _in_waves(
    stores: Sequence[StoreMigration], canaries: set[str], sizes: Sequence[int]
) -> list[StoreMigration]:
    """Gives a wave to each store that lacks something and has none yet."""
    begun = {store.name: store.wave for store in stores if store.wave is not None}
    new = [each.name for each in stores if each.is_behind and not each.given]
    new = [name for name in new if name not in begun]
    if not begun:
        assigned = {name: CANARIES for name in new if name in canaries}
        assigned |= _numbered([name for name in new if name not in canaries], sizes)
    else:
        late = [store for store in stores if store.name in canaries and store.is_behind]
        for store in late:
            if begun.get(store.name) != CANARIES:
                raise WaveRefused(
                    f"the waves of this migration are fixed since it began, and {store.name} is no "
                    "canary. Leave it out."
                )
        # Such as one that was restored from a backup meanwhile.
        assigned = dict.fromkeys(new, max(1, *begun.values()))
    return [replace(store, wave=assigned.get(store.name, store.wave)) for store in stores]


def _numbered(names: Sequence[str], sizes: Sequence[int]) -> dict[str, int]:
    waves: dict[str, int] = {}
    wave, left = 1, sizes[0]
    for name in names:
        if left == 0:
            wave += 1
            left = sizes[min(wave, len(sizes)) - 1]
        waves[name] = wave
        left -= 1
    return waves
