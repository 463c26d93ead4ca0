"""The mutants of the migration of stores, and of the jobs that wait for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Final

from alembic import op
from psycopg import sql

from temporal_tenancy.cli import _database_checks, _fleet
from temporal_tenancy.core.directory import Tenant, TenantStatus
from temporal_tenancy.postgres import migrations, row_security
from temporal_tenancy.sdk import suspension
from temporal_tenancy.stores import drift, upgrading, waves
from tests.mutants.mutant import Mutant, replace

UPGRADING: Final = "tests/library/stores/test_upgrading.py"
WAVES: Final = "tests/library/stores/test_waves.py"
EXPAND: Final = "tests/library/stores/test_expand_and_contract.py"
DRIFT: Final = "tests/library/stores/test_drift.py"
BEHIND: Final = "tests/library/sdk/test_schema_behind.py"
WAITS: Final = (
    f"{BEHIND}::test_a_job_waits_without_a_slot_or_an_attempt_until_its_store_is_migrated"
)


def _take_a_failure_for_done() -> None:
    real = upgrading._Run.upgrade

    def upgrade(self: Any, store: Any) -> Any:
        outcome = real(self, store)
        return True if isinstance(outcome, str) else outcome

    replace(upgrading._Run, "upgrade", upgrade)


def _take_a_database_for_its_server() -> None:
    replace(upgrading, "answers", lambda url: False)


def _let_every_job_pass() -> None:
    async def passing(self: object, tenant: Tenant) -> Tenant:
        return tenant

    replace(suspension.Waiting, "pass_or_fail", passing)


def _release_whoever_is_not_suspended() -> None:
    replace(
        suspension,
        "_still_waits",
        lambda tenant, job: tenant is not None and tenant.status is TenantStatus.SUSPENDED,
    )


def _write_in_a_plan() -> None:
    real = waves._versions

    def versions(connection: Any, *given: Any, **more: Any) -> Any:
        connection.execute("update tenancy.stores set wave = 1, target = 'a plan'")
        return real(connection, *given, **more)

    replace(waves, "_versions", versions)


def _bound_no_failures() -> None:
    replace(waves.Waves, "bound", lambda self, wave: 1_000)


def _let_canaries_be_any() -> None:
    replace(waves, "_canaries", lambda connection, tenants, stores, named: set())


def _pass_a_canary_that_has_failed() -> None:
    real = waves.wave_of

    def wave_of(name: str, stores: Any) -> int:
        passing = [each for each in stores if each.state != "failed"]
        return real(name, passing if name == "next" else stores)

    replace(upgrading, "wave_of", wave_of)
    replace(_fleet, "wave_of", wave_of)


def _write_down_no_version() -> None:
    done = "update {} set failure = null where cast(%s as jsonb) is not null and name = %s"
    replace(upgrading, "_DONE", sql.SQL(done))


def _compare_tables_alone() -> None:
    real = drift.objects_in

    def tables(*given: Any) -> Any:
        found = real(*given)
        return {
            schema: tuple(line for line in lines if line.startswith("table "))
            for schema, lines in found.items()
        }

    replace(drift, "objects_in", tables)


@contextmanager
def _without_force(*tables: str) -> Iterator[None]:
    for table in tables:
        op.execute(f"alter table {table} no force row level security")
    yield


def _leave_tables_without_force() -> None:
    replace(row_security, "repairing", _without_force)


def _take_every_trigger() -> None:
    query = "select tgname::text from pg_trigger"

    def every(connection: Any, *, schema: str) -> set[str]:
        return {name for (name,) in connection.execute(query)}

    replace(_database_checks, "triggers_of_migrations", every)


STORE_MIGRATION_FAULTS: Final = [
    Mutant(
        "hidden-rows-passed-over",
        "a migration that changes rows changes none, and nobody is told",
        (f"{EXPAND}::test_a_migration_does_not_pass_over_rows_in_silence",),
        seed=lambda: replace(migrations, "hidden_rows_refused", nullcontext),
    ),
    Mutant(
        "repairing-not-ended",
        "the owner sees all rows of a table after a migration has repaired it",
        (f"{EXPAND}::test_a_migration_does_not_pass_over_rows_in_silence",),
        seed=_leave_tables_without_force,
    ),
    Mutant(
        "failed-store-not-behind",
        "a store whose migration has failed counts as migrated",
        (f"{UPGRADING}::test_a_store_whose_migration_fails_stays_behind_alone",),
        seed=_take_a_failure_for_done,
    ),
    Mutant(
        "one-database-away-ends-all",
        "a database that takes no connections ends the migration of all others",
        (f"{UPGRADING}::test_a_database_that_takes_no_connections_holds_up_no_other",),
        seed=_take_a_database_for_its_server,
    ),
    Mutant(
        "schema-behind-not-checked",
        "a job runs on tables that lack what it needs",
        (WAITS,),
        seed=_let_every_job_pass,
    ),
    Mutant(
        "behind-and-released",
        "a job that waits for a migration is released before it, again and again",
        (WAITS,),
        seed=_release_whoever_is_not_suspended,
    ),
    Mutant(
        "plan-changes",
        "a plan writes its waves to the control plane",
        (f"{WAVES}::test_a_plan_changes_nothing",),
        seed=_write_in_a_plan,
    ),
    Mutant(
        "wave-without-bound",
        "waves go on however many stores fail",
        (f"{WAVES}::test_a_wave_with_more_failures_than_its_bound_is_the_last",),
        seed=_bound_no_failures,
    ),
    Mutant(
        "canaries-not-first",
        "nobody looks at who the canaries are",
        (f"{WAVES}::test_canaries_come_first_and_then_waves_of_the_sizes_given",),
        seed=_let_canaries_be_any,
    ),
    Mutant(
        "next-passes-a-canary",
        "the wave after a canary that has failed begins",
        (f"{WAVES}::test_no_wave_begins_while_a_canary_is_behind",),
        seed=_pass_a_canary_that_has_failed,
    ),
    Mutant(
        "version-not-written",
        "the control plane is not told which migrations a store has got",
        (f"{WAVES}::test_a_database_that_the_control_plane_knows_to_be_up_to_date_is_not_asked",),
        seed=_write_down_no_version,
    ),
    Mutant(
        "drift-of-tables-alone",
        "drift is looked for in the names of tables alone",
        (f"{DRIFT}::test_what_somebody_changed_by_hand_is_found",),
        seed=_compare_tables_alone,
    ),
    Mutant(
        "trigger-by-hand-taken",
        "the doctor takes a trigger that somebody made by hand for one of the migrations'",
        (
            "tests/system/cli/test_store_migrations.py::"
            "test_doctor_knows_the_triggers_that_migrations_make_from_those_made_by_hand",
        ),
        seed=_take_every_trigger,
    ),
]
