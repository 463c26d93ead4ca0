"""The mutants of columns: faults in what the tenant role may write of platform columns."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

COLUMNS: Final = "tests/isolation/test_columns.py"

_PLATFORMS: Final = f"{COLUMNS}::test_the_tenants_role_writes_nothing_that_is_the_platforms"
_BEYOND: Final = f"{COLUMNS}::test_what_it_writes_is_within_what_the_platform_reads"
_OTHERS: Final = f"{COLUMNS}::test_whatever_a_tenants_role_writes_others_are_listed_and_claimed"
_LOCKS: Final = f"{COLUMNS}::test_the_tenants_role_locks_no_table_of_letters"

COLUMN_FAULTS: Final = [
    Mutant(
        "letters-written-whole",
        "the tenant role may write every column of a dead letter",
        (_PLATFORMS, _LOCKS),
        schema="grant insert, update on tenancy.dead_letters to tenancy_tenant",
    ),
    Mutant(
        "messages-written-whole",
        "the tenant role may write every column of a message",
        (_PLATFORMS,),
        schema="grant insert, update on tenancy.outbox_messages to tenancy_tenant",
    ),
    Mutant(
        "leases-of-anyones",
        "the tenant role may change the lease of a message",
        (_PLATFORMS, _OTHERS),
        schema="drop trigger tenants_update on tenancy.outbox_messages",
    ),
    Mutant(
        "attempts-of-anyones",
        "the tenant role may insert a message in any state",
        (_PLATFORMS,),
        schema="drop trigger tenants_insert on tenancy.outbox_messages",
    ),
    Mutant(
        "letters-settled-by-anyone",
        "the tenant role may settle dead letters",
        (_PLATFORMS,),
        schema="drop trigger tenants_update on tenancy.dead_letters",
    ),
    Mutant(
        "times-without-end",
        "a message may have times that Python cannot read",
        (_BEYOND, _OTHERS),
        schema="alter table tenancy.outbox_messages drop constraint ck_outbox_messages_times",
    ),
    Mutant(
        "letters-times-without-end",
        "a dead letter may have times that Python cannot read",
        (_BEYOND, _OTHERS),
        schema="alter table tenancy.dead_letters drop constraint ck_dead_letters_times",
    ),
    Mutant(
        "letters-of-anothers-run",
        "a dead letter may name another tenant's workflow",
        (_BEYOND, _OTHERS),
        schema="alter table tenancy.dead_letters drop constraint ck_dead_letters_owner",
    ),
    Mutant(
        "texts-of-any-length",
        "the texts of a message may have any length",
        (_BEYOND,),
        schema="alter table tenancy.outbox_messages drop constraint ck_outbox_messages_sizes",
    ),
]
