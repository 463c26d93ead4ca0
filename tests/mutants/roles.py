"""The mutants of roles: faults in whom a migration lets in, alters or shuts out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from sqlalchemy import Connection

from processes.cli import running_stack
from temporal_tenancy.postgres import migrations, roles, row_security
from temporal_tenancy.postgres.hardening import harden
from temporal_tenancy.postgres.installation import Installation
from tests.mutants.mutant import Mutant, replace

ROLES: Final = "tests/library/postgres/test_runtime_roles.py"
HARDENING: Final = "tests/library/postgres/test_hardening.py"
RUNNING: Final = "tests/system/cli/test_running_stack.py"
TRANSACTION: Final = "tests/library/postgres/test_migration_transaction.py"


def _adopt_whoever_it_is() -> None:
    replace(roles, "refuse_excess_rights", lambda *_: None)


def _count_every_role_as_ours() -> None:
    replace(roles, "is_ours", lambda *_: True)


def _name_the_default_roles() -> None:
    replace(row_security, "current_installation", Installation)


def _take_the_owners_url_from_a_file() -> None:
    replace(running_stack, "OWNER", "")


def _harden_unasked() -> None:
    set_up = migrations.set_up_roles

    def hardened(owner: psycopg.Connection[Any], there: Installation, passwords: Any) -> None:
        harden(owner, there.roles)
        set_up(owner, there, passwords)

    replace(migrations, "set_up_roles", hardened)


def _commit_on_the_way() -> None:
    transaction = migrations.owners_transaction

    @contextmanager
    def in_pieces(owner_url: str) -> Iterator[tuple[Connection, psycopg.Connection[Any]]]:
        with transaction(owner_url) as (connection, owner):
            try:
                yield connection, owner
            except BaseException:
                connection.commit()
                raise

    replace(migrations, "owners_transaction", in_pieces)


ROLE_FAULTS: Final = [
    Mutant(
        "roles-of-any-rights",
        "a role of the application is adopted whatever it may do",
        (f"{ROLES}::test_a_role_that_may_do_more_is_not_adopted",),
        seed=_adopt_whoever_it_is,
    ),
    Mutant(
        "roles-not-ours-altered",
        "a role that the library did not make gets a password and limits",
        (f"{ROLES}::test_a_role_of_the_application_keeps_its_password_and_its_settings",),
        seed=_count_every_role_as_ours,
    ),
    Mutant(
        "policies-for-default-roles",
        "protect() writes policies for the default role, whatever the installation names",
        (f"{ROLES}::test_roles_have_the_names_that_the_installation_gives",),
        seed=_name_the_default_roles,
    ),
    Mutant(
        "hardened-unasked",
        "a migration takes away what every role may do, though nobody asked",
        (f"{HARDENING}::test_another_application_goes_on_until_the_database_is_hardened",),
        seed=_harden_unasked,
    ),
    Mutant(
        "owner-of-the-running-stack",
        "a command takes the owner's URL from the stack that runs",
        (f"{RUNNING}::test_its_addresses_are_used_but_never_the_owners",),
        seed=_take_the_owners_url_from_a_file,
    ),
    Mutant(
        "migrated-by-halves",
        "a migration that fails keeps what it had done",
        (f"{TRANSACTION}::test_a_migration_that_fails_at_any_statement_leaves_all_as_it_was",),
        seed=_commit_on_the_way,
    ),
]
