"""The migrations that this code knows, and those that a database has."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import TextClause, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncSession

from temporal_tenancy.core.migration_environment import LIBRARY, MigrationEnvironment
from temporal_tenancy.postgres.library_text import library_text

_VERSION: Final = "select version_num from"
_QUOTED: Final = postgresql.dialect().identifier_preparer.quote  # type: ignore[no-untyped-call]


@functools.cache
def revisions_of(environment: MigrationEnvironment) -> Sequence[str]:
    """Returns the migrations of `environment` that this process knows, the newest first."""
    # Imported here: Alembic takes long to load, and few processes ask.
    from alembic.script import ScriptDirectory

    from temporal_tenancy.postgres.migrations import alembic_config

    scripts = ScriptDirectory.from_config(alembic_config(environment, None))
    return tuple(script.revision for script in scripts.walk_revisions())


@dataclass(frozen=True)
class Lineage:
    """The order of an environment's migrations."""

    newest: str
    before: Mapping[str, frozenset[str]]  # each migration with itself and those before it

    def has(self, revision: str | None, needed: str | None = None) -> bool:
        """Whether a database at `revision` has the migration `needed`; None: the newest.

        A revision that this process does not know is a newer release's, and has all.
        """
        needed = self.newest if needed is None else needed
        if revision is None:
            return False
        return revision not in self.before or needed in self.before[revision]


def read_lineage(environment: MigrationEnvironment) -> Lineage:
    """Reads the migrations of `environment`; a process that asks often uses `lineage_of()`."""
    # Imported here: Alembic takes long to load, and few processes ask.
    from alembic.script import ScriptDirectory

    from temporal_tenancy.postgres.migrations import alembic_config

    scripts = ScriptDirectory.from_config(alembic_config(environment, None))
    before: dict[str, frozenset[str]] = {}
    for script in reversed(list(scripts.walk_revisions())):
        down = script.down_revision or ()
        downs = (down,) if isinstance(down, str) else tuple(down)
        before[script.revision] = frozenset({script.revision}).union(*(before[d] for d in downs))
    return Lineage(scripts.get_current_head() or "", before)


lineage_of: Final = functools.cache(read_lineage)


def newest_revisions(application: Iterable[MigrationEnvironment] = ()) -> dict[str, str]:
    """Returns the newest migration that this process knows, by the environment's name.

    They are the library's and those of `application`.
    """
    environments = (*LIBRARY, *application)
    return {environment.name: revisions_of(environment)[0] for environment in environments}


async def applied_revisions(
    session: AsyncSession, environments: Iterable[MigrationEnvironment] = LIBRARY
) -> dict[str, str]:
    """Returns the migration that the database is at, by the environment's name.

    An environment whose table is missing, or which the session's role may not read, is left out.
    """
    found = {}
    for environment in environments:
        try:
            async with session.begin_nested():
                revision = await session.scalar(_version_of(environment))
        except ProgrammingError:
            continue
        if revision is not None:
            found[environment.name] = str(revision)
    return found


def _version_of(environment: MigrationEnvironment) -> TextClause:
    if environment in LIBRARY:
        return library_text(f"{_VERSION} tenancy.{environment.version_table}")
    return text(f"{_VERSION} {_QUOTED(environment.version_table)}")
