"""The mutants of the library's schema: statements that name none, or another."""

from __future__ import annotations

from typing import Final

from sqlalchemy import MetaData, Table

from temporal_tenancy.postgres import connections, library_text, schema_in_use
from tests.mutants.mutant import Mutant, replace

SCHEMAS: Final = "tests/system/upgrade/test_schemas.py"
MOVING: Final = "tests/library/postgres/test_moving.py"
CLI: Final = "tests/system/cli/test_migrate.py"
MIGRATIONS: Final = "tests/library/postgres/test_database_migrations.py"


def _name_no_schema() -> None:
    replace(library_text, "_table", lambda name: Table(name, MetaData()))


def _prefer_public() -> None:
    def chosen(found: set[str], schema: str) -> str:
        return "public" if "public" in found else schema

    replace(schema_in_use, "chosen", chosen)


SCHEMA_FAULTS: Final = [
    Mutant(
        "text without schema",
        "the library's SQL text finds its tables by the search_path",
        (f"{SCHEMAS}::test_every_statement_names_the_schema",),
        _name_no_schema,
    ),
    Mutant(
        "public first",
        "tables in public are used though the library's schema has its own",
        (f"{MOVING}::test_a_strangers_table_of_versions_is_not_the_librarys",),
        _prefer_public,
    ),
    Mutant(
        "second installation",
        "a second installation is made and used though nobody asked for one",
        (
            f"{MOVING}::test_no_second_installation_is_made_unasked",
            f"{CLI}::test_another_schema_is_said_and_moved_to_on_request",
        ),
        lambda: replace(schema_in_use, "refuse_elsewhere", lambda *_: None),
    ),
    Mutant(
        "no encoding",
        "a database without an encoding is migrated, and its names are bytes",
        (f"{MIGRATIONS}::test_a_database_without_an_encoding_is_refused",),
        lambda: replace(connections, "NO_ENCODING", "none"),
    ),
]
