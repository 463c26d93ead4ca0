"""What the database calls things, and its lint: tables, columns, values, roles, migrations."""

from __future__ import annotations

import re
from collections.abc import Iterator

from alembic.script import ScriptDirectory
from sqlalchemy import CheckConstraint, Table

from temporal_tenancy.core.migration_environment import MigrationEnvironment
from temporal_tenancy.lint.catalogue import CHECKS
from temporal_tenancy.postgres.migrations import alembic_config
from temporal_tenancy.postgres.roles import RUNTIME_ROLES
from tests.held_names.code import modules, texts

VALUES = re.compile(r"\b(\w+) in \(('[^)]*')\)")
MADE = re.compile(r"create table (?:if not exists )?(\w+) \((\w+) ")
CHANNEL = re.compile(r"pg_notify\('(\w+)'")
SETTING = re.compile(r"(?:set_config|current_setting)\('(\w+\.\w+)'")


def database_names() -> Iterator[str]:
    """One line each."""
    for table in _tables():
        yield from (f"table {table.name}.{column.name}" for column in table.columns)
        for check in table.constraints:
            if isinstance(check, CheckConstraint):
                for column, values in VALUES.findall(str(check.sqltext)):
                    for value in re.findall(r"'(\w+)'", values):
                        yield f"table {table.name}.{column} = {value}"
    for environment in _environments():
        yield f"table {environment.version_table}.version_num"
        scripts = ScriptDirectory.from_config(alembic_config(environment, None))
        for script in scripts.walk_revisions():
            yield f"migration {environment.version_table} {script.revision}"
    yield from (f"role {role}" for role in RUNTIME_ROLES)
    yield from (f"lint check {check.id}" for check in CHECKS)
    for text in texts():
        yield from (f"table {table}.{column}" for table, column in MADE.findall(text))
        yield from (f"channel {name}" for name in CHANNEL.findall(text))
        yield from (f"setting {name}" for name in SETTING.findall(text))


def _tables() -> Iterator[Table]:
    """Those of the project's models; a test may have added more to their metadata."""
    for module in modules():
        for value in vars(module.there).values():
            table = getattr(value, "__table__", None)
            if isinstance(value, type) and value.__module__ == module.name and table is not None:
                yield table


def _environments() -> set[MigrationEnvironment]:
    return {
        value
        for module in modules()
        for value in vars(module.there).values()
        if isinstance(value, MigrationEnvironment)
    }
