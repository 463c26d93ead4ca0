"""The mutants of scopes: faults by which a scope outlives its block, or is another one."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncSession

from temporal_tenancy.core import scope, scoped_value
from temporal_tenancy.fastapi import _installing as installing
from temporal_tenancy.postgres import database, sql_directory
from temporal_tenancy.postgres._guarded_connection import (
    PlatformConnection,
    TenantConnection,
)
from temporal_tenancy.sdk.interceptors import _activity_inbound as activity_inbound
from tests.mutants.mutant import Mutant, replace

CARRIED: Final = "tests/library/core/test_carried_scopes.py"
PROGRAMS: Final = "tests/isolation/test_scope_programs.py"
SESSIONS: Final = "tests/library/postgres/test_carried_sessions.py"
JOBS: Final = "tests/library/sdk/test_scopes_of_jobs.py"
INSTALLING: Final = "tests/library/fastapi/test_installing.py"
DIRECTORY: Final = "tests/library/postgres/test_sql_directory.py"
WEB: Final = "tests/system/web/test_web_scopes.py"


def _leave_open() -> None:
    def left(block: Any, *error: object) -> None:
        with suppress(ValueError):
            block._scoped_value.variable.reset(block._token)

    replace(scoped_value.Block, "__exit__", left)


def _forget_the_block_around() -> None:
    entered = scope._Entry.__enter__

    def enter(entry: Any) -> scope.Scope:
        found = entered(entry)
        entry.outer = None
        return found

    replace(scope._Entry, "__enter__", enter)


def _enter_whatever_is_asked() -> None:
    def enter(entry: Any) -> scope.Scope:
        entry.outer = scope._current.variable.get()
        entry.begin()
        found: scope.Scope = entry.value
        return found

    replace(scope._Entry, "__enter__", enter)


def _inherit_the_workers_scope() -> None:
    replace(activity_inbound, "_outside", suppress)
    replace(activity_inbound, "_begin", scope.enter)


def _begin_again_behind_the_block() -> None:
    class Reopened(AsyncSession):
        def __init__(self, *given: Any, close_resets_only: bool, **options: Any) -> None:
            super().__init__(*given, close_resets_only=True, **options)

    replace(database, "AsyncSession", Reopened)


def _refuse_what_has_happened() -> None:
    for module in (scope, scoped_value):
        replace(module, "is_enforced", lambda: True)


SCOPE_FAULTS: Final = [
    Mutant(
        "manager-of-any-generator",
        "a generator that handles an error may enter a scope, without a context manager",
        (
            f"{CARRIED}::test_a_generator_that_is_no_context_manager_does_not_after_a_failure_either",
        ),
        seed=lambda: replace(scoped_value, "_has_manager", lambda generator: True),
    ),
    Mutant(
        "scope-not-closed",
        "a scope stays open after its block",
        (
            CARRIED,
            PROGRAMS,
            f"{WEB}::test_a_task_that_a_request_leaves_is_refused_behind_its_answer",
        ),
        seed=_leave_open,
    ),
    Mutant(
        "scope-of-anything",
        "anything may be entered as a scope, such as a tenant's id",
        (
            "tests/system/project/test_given_tenants.py::test_what_is_no_tenant_is_refused_in_a_sentence",
        ),
        seed=lambda: replace(scope, "Scope", object),
    ),
    Mutant(
        "scope-without-what-is-around",
        "a scope stays open after the one around it has ended",
        (f"{CARRIED}::test_a_scope_entered_anew_ends_with_the_one_around_it",),
        seed=_forget_the_block_around,
    ),
    Mutant(
        "foreign-scope-entered",
        "a tenant's code may enter any scope",
        (f"{CARRIED}::test_nobody_enters_another_owner_from_inside_a_tenants_scope", PROGRAMS),
        seed=_enter_whatever_is_asked,
    ),
    Mutant(
        "scope-left-to-the-caller",
        "a generator that is no context manager may enter a scope",
        (f"{CARRIED}::test_a_generator_that_is_no_context_manager_begins_no_block", PROGRAMS),
        seed=lambda: replace(scoped_value.Block, "check_generator", lambda block, frame: None),
    ),
    Mutant(
        "scope-of-whoever-started-the-worker",
        "an activity inherits the scope in which its worker was started",
        (f"{JOBS}::test_what_an_activity_waits_for_has_its_scope",),
        seed=_inherit_the_workers_scope,
    ),
    Mutant(
        "open-run-refused",
        "a replay refuses what the run did in an earlier release",
        (f"{JOBS}::test_a_run_that_did_so_in_an_earlier_release_goes_on_as_it_began",),
        seed=_refuse_what_has_happened,
    ),
    Mutant(
        "commit-behind-the-scope",
        "a tenant's writes are committed after their scope has ended",
        (
            f"{SESSIONS}::"
            "test_a_tenants_session_that_is_open_behind_its_scope_neither_asks_nor_commits",
        ),
        seed=lambda: replace(TenantConnection, "require_committer", lambda connection: None),
    ),
    Mutant(
        "statement-behind-the-scope",
        "a tenant's connection takes statements of any scope, and of none",
        (
            f"{SESSIONS}::"
            "test_a_tenants_session_that_is_open_behind_its_scope_neither_asks_nor_commits",
        ),
        seed=lambda: replace(TenantConnection, "require_sender", lambda connection: None),
    ),
    Mutant(
        "platforms-commit-behind-the-scope",
        "the platform's writes are committed after their scope has ended",
        (f"{SESSIONS}::test_the_platforms_session_that_is_open_behind_its_scope_does_neither",),
        seed=lambda: replace(PlatformConnection, "require_committer", lambda connection: None),
    ),
    Mutant(
        "session-begun-again",
        "a session begins transactions after its block",
        (f"{SESSIONS}::test_a_session_is_not_begun_again_behind_its_block",),
        seed=_begin_again_behind_the_block,
    ),
    Mutant(
        "generators-session-is-its-callers",
        "a loop's writes go into the transaction of the generator that it reads",
        (f"{SESSIONS}::test_a_generators_session_is_not_its_callers_also_after_a_break",),
        seed=lambda: replace(
            scoped_value.ScopedValue, "current_block", lambda variable: variable.variable.get()
        ),
    ),
    Mutant(
        "record-behind-the-block",
        "a tenant's record is available after its activity has ended",
        (f"{CARRIED}::test_what_a_block_gives_is_refused_behind_its_end",),
        seed=lambda: replace(scoped_value.ScopedValue, "get", scoped_value.ScopedValue.peek),
    ),
    Mutant(
        "routes-without-tenant",
        "routes that an application had before install_tenancy() run without a tenant",
        (f"{INSTALLING}::test_routes_that_are_there_already_are_refused",),
        seed=lambda: replace(installing, "_refuse_routes", lambda application: None),
    ),
    Mutant(
        "directory-open-to-tenants",
        "a tenant's code looks up other tenants in the application's own table",
        (f"{DIRECTORY}::test_a_tenants_own_code_looks_up_itself_and_no_other",),
        seed=lambda: replace(
            sql_directory, "outside_own_scope", lambda tenant_id: scope._outside()
        ),
    ),
]
