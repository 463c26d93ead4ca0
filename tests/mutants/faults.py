"""All mutants, and those of row-level security, agreement, scope and single effects."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio import workflow
from temporalio.common import Priority

from activities import billing
from temporal_tenancy.core import scope, scoped_value
from temporal_tenancy.core.identifiers import WorkflowId
from temporal_tenancy.postgres import tenant_owned
from temporal_tenancy.postgres.database import tenant_session
from temporal_tenancy.sdk import _guard as guard
from temporal_tenancy.sdk import agreement, header, stamps
from temporal_tenancy.sdk.interceptors import _activity_inbound as activity_inbound
from temporal_tenancy.sdk.interceptors import _client_outbound as client_outbound
from temporal_tenancy.sdk.interceptors import _workflow_outbound as workflow_outbound
from temporal_tenancy.ticks.fan_out import planning
from tests.mutants.columns import COLUMN_FAULTS
from tests.mutants.commands import COMMAND_FAULTS
from tests.mutants.deploys import DEPLOY_FAULTS
from tests.mutants.doors import DOOR_FAULTS
from tests.mutants.files import FILE_FAULTS
from tests.mutants.hops import HOPS, MESSAGES, STARTS, hop_mutants
from tests.mutants.locks import LOCK_FAULTS
from tests.mutants.measures import MEASURES
from tests.mutants.messages import MESSAGE_FAULTS
from tests.mutants.mutant import Mutant, replace
from tests.mutants.payloads import PAYLOAD_FAULTS
from tests.mutants.pools import POOL_FAULTS
from tests.mutants.probes import PROBE_FAULTS
from tests.mutants.quoted import QUOTED_FAULTS
from tests.mutants.raw import RAW_FAULTS
from tests.mutants.requests import REQUEST_FAULTS
from tests.mutants.roles import ROLE_FAULTS
from tests.mutants.schemas import SCHEMA_FAULTS
from tests.mutants.scopes import SCOPE_FAULTS
from tests.mutants.shared_state import SHARED_STATE_FAULTS
from tests.mutants.store_migrations import STORE_MIGRATION_FAULTS
from tests.mutants.stores import STORE_FAULTS
from tests.mutants.tenant_ids import TENANT_ID_FAULTS
from tests.mutants.tls import TLS_FAULTS

ROW_SECURITY: Final = "tests/isolation/test_row_security.py"
LEAK_HUNT: Final = "tests/isolation/test_leak_hunt.py"
CATALOGUE: Final = "tests/isolation/test_catalogue.py"
SESSIONS: Final = "tests/library/postgres/test_database.py"
FAN_OUT: Final = "tests/library/ticks/test_fan_out.py"
FAN_OUT_TIMES: Final = "tests/library/ticks/test_fan_out_times.py"

_POLICIES: Final = ("tenant_isolation", "tenant_access")
_BESIDE: Final = f"{LEAK_HUNT}::test_an_action_beside_another_tenants_rows_does_as_modelled"
_LINT: Final = f"{CATALOGUE}::test_what_the_migrations_make_is_without_findings"


def _alter_policies(table: str, rule: str) -> str:
    return ";".join(
        f"alter policy {policy} on {table} using ({rule}) with check ({rule})"
        for policy in _POLICIES
    )


def _pass(*_: object, **__: object) -> None:
    """Replaces a check, and finds nothing."""


def _outlive_the_transaction() -> None:
    statement = text("select set_config('app.tenant_id', :tenant, false)")
    replace(tenant_owned, "_set_tenant", lambda limits, by_server: statement)


def _fail_each_cron_run() -> None:
    replace(guard, "_BY_CRON", -1)


def _skip_the_guard() -> None:
    replace(guard._GuardedInstance, "_check", _pass)


def _believe_every_id() -> None:
    replace(agreement, "check_workflow_id", lambda workflow_id, *_: WorkflowId.parse(workflow_id))


def _believe_every_header() -> None:
    replace(agreement, "check_header", _pass)


def _believe_every_attribute() -> None:
    replace(agreement, "check_search_attributes", _pass)


def _believe_every_owner() -> None:
    replace(agreement, "check_same_owner", _pass)


def _believe_an_activitys_header() -> None:
    replace(activity_inbound, "agreed_scope", lambda mark, input: header.read(input.headers))


def _believe_every_state() -> None:
    replace(activity_inbound, "require_runnable", lambda tenant_id, tenant, job: tenant)


def _never_leave_a_scope() -> None:
    replace(scoped_value.Block, "__exit__", lambda *given: None)


def _keep_the_parents_key() -> None:
    prioritised = stamps.prioritised

    def inherited(priority: Priority, *given: Any, **options: Any) -> Priority:
        in_child = workflow.in_workflow()
        return priority if in_child else prioritised(priority, *given, **options)

    replace(stamps, "prioritised", inherited)


def _let_code_ask_for_shares() -> None:
    def asked_for(priority: Priority, scope: scope.Scope, **options: object) -> Priority:
        return priority

    for module in (stamps, workflow_outbound, client_outbound):
        replace(module, "fair", asked_for)


def _read_the_clock() -> None:
    tick_of = planning.tick_of
    replace(planning, "tick_of", lambda job, nominal: tick_of(job, datetime.now(UTC)))


def _commit_the_invoice_before_its_lines() -> None:
    @asynccontextmanager
    async def session_of_many_transactions(**limits: Any) -> AsyncIterator[AsyncSession]:
        async with tenant_session(**limits) as session:
            execute = session.execute

            async def execute_and_commit(*given: Any, **options: Any) -> Any:
                result = await execute(*given, **options)
                await session.commit()
                return result

            replace(session, "execute", execute_and_commit)
            yield session

    replace(billing, "tenant_session", session_of_many_transactions)


FAULTS: Final = [
    Mutant(
        "no-force",
        "row-level security does not apply to the table's owner",
        (f"{ROW_SECURITY}::test_the_owner_sees_no_rows",),
        schema="alter table invoices no force row level security",
    ),
    Mutant(
        "dropped-policy",
        "the policy that grants access is missing",
        (f"{ROW_SECURITY}::test_two_tenants_may_use_the_same_key", _LINT),
        schema="drop policy tenant_access on invoices",
    ),
    Mutant(
        "dropped-restrictive-policy",
        "the restrictive policy, which limits any wider one, is missing",
        (f"{ROW_SECURITY}::test_a_wider_policy_beside_ours_shows_nothing_more",),
        schema="drop policy tenant_isolation on invoices",
    ),
    Mutant(
        "widened-policy",
        "both policies allow every row",
        (_BESIDE,),
        schema=_alter_policies("daily_usage", "true"),
    ),
    Mutant(
        "widened-reading",
        "other tenants' rows may be read, though not written",
        (_BESIDE,),
        schema=";".join(f"alter policy {name} on daily_usage using (true)" for name in _POLICIES),
    ),
    Mutant(
        "widened-writing",
        "other tenants' rows may be written, though not read",
        (_BESIDE,),
        schema=";".join(
            f"alter policy {name} on daily_usage with check (true)" for name in _POLICIES
        ),
    ),
    Mutant(
        "no-nullif",
        'a used connection has the tenant "" instead of none',
        (f"{ROW_SECURITY}::test_with_no_tenant_there_are_no_rows_on_a_fresh_or_a_used_connection",),
        schema=_alter_policies("invoices", "tenant_id = current_setting('app.tenant_id', true)"),
    ),
    Mutant(
        "runtime-role-owns",
        "the tenant role owns a table",
        (f"{ROW_SECURITY}::test_the_tenant_role_cannot_do_more_than_its_part",),
        schema="alter table invoices owner to tenancy_tenant",
    ),
    Mutant(
        "set-for-set-local",
        "the tenant setting outlives its transaction",
        (f"{SESSIONS}::test_nothing_else_outlives_a_session_on_its_connection",),
        seed=_outlive_the_transaction,
    ),
    Mutant(
        "agreement-at-the-start",
        "the guard checks no start",
        (f"{STARTS}::test_a_start_with_a_forged_header_leaves_no_mark",),
        seed=_skip_the_guard,
    ),
    Mutant(
        "wrong-crons-for-ever",
        "a wrong start with a cron schedule is started again for ever",
        (f"{STARTS}::test_a_wrong_start_with_a_cron_schedule_ends_after_its_second_run",),
        seed=_fail_each_cron_run,
    ),
    Mutant(
        "agreement-of-the-id",
        "the workflow id is not compared with the input",
        (f"{STARTS}::test_a_wrong_start_fails_at_once_and_runs_nothing",),
        seed=_believe_every_id,
    ),
    Mutant(
        "agreement-of-the-header",
        "the header is not compared with the input",
        (f"{STARTS}::test_a_start_with_a_forged_header_leaves_no_mark",),
        seed=_believe_every_header,
    ),
    Mutant(
        "agreement-of-the-attribute",
        "the search attribute is not compared with the input",
        (f"{STARTS}::test_a_wrong_search_attribute_fails_the_start",),
        seed=_believe_every_attribute,
    ),
    Mutant(
        "agreement-of-what-is-named",
        "a tenant's code may name another tenant's workflow",
        (f"{MESSAGES}::test_a_tenants_code_cannot_reach_another_tenants_workflow",),
        seed=_believe_every_owner,
    ),
    Mutant(
        "agreement-of-an-activity",
        "an activity trusts its header alone",
        ("tests/library/sdk/test_activity_agreement.py",),
        seed=_believe_an_activitys_header,
    ),
    Mutant(
        "state-unchecked",
        "an activity runs whatever its tenant's status",
        (
            "tests/library/sdk/test_tenant_state.py::"
            "test_a_tenant_that_may_not_run_the_job_is_refused_before_any_activity_code",
        ),
        seed=_believe_every_state,
    ),
    Mutant(
        "context-not-reset",
        "a scope is entered and never left",
        ("tests/library/core/test_scope.py",),
        seed=_never_leave_a_scope,
    ),
    Mutant(
        "parents-fairness-key",
        "a child has its parent's fairness key",
        (
            f"{HOPS}::test_a_child_has_its_own_fairness_key_and_not_its_parents",
            f"{FAN_OUT}::test_children_carry_their_own_tenant_weight_and_words",
        ),
        seed=_keep_the_parents_key,
    ),
    Mutant(
        "shares-are-asked-for",
        "a tenant's code names its own fairness key and weight",
        (f"{HOPS}::test_a_tenants_code_takes_no_other_tenants_share_and_no_larger_one",),
        seed=_let_code_ask_for_shares,
    ),
    Mutant(
        "tick-from-the-clock",
        "a tick's key is made from the clock, not from its nominal time",
        (f"{FAN_OUT_TIMES}::test_a_schedule_is_applied_once_and_its_backfill_runs_every_month",),
        seed=_read_the_clock,
    ),
    Mutant(
        "once-guard-outside",
        "an invoice is committed before its lines",
        (
            "tests/saas/jobs/test_jobs.py::"
            "test_an_invoice_that_breaks_half_way_leaves_nothing_for_the_next_attempt_to_find",
        ),
        seed=_commit_the_invoice_before_its_lines,
    ),
]

_ALL: Final = [
    *FAULTS,
    *MESSAGE_FAULTS,
    *SCHEMA_FAULTS,
    *SCOPE_FAULTS,
    *STORE_FAULTS,
    *STORE_MIGRATION_FAULTS,
    *TENANT_ID_FAULTS,
    *COMMAND_FAULTS,
    *POOL_FAULTS,
    *PAYLOAD_FAULTS,
    *COLUMN_FAULTS,
    *DOOR_FAULTS,
    *FILE_FAULTS,
    *REQUEST_FAULTS,
    *LOCK_FAULTS,
    *SHARED_STATE_FAULTS,
    *DEPLOY_FAULTS,
    *TLS_FAULTS,
    *QUOTED_FAULTS,
    *ROLE_FAULTS,
    *PROBE_FAULTS,
    *MEASURES,
    *RAW_FAULTS,
    *hop_mutants(),
]
MUTANTS: Final = {mutant.name: mutant for mutant in _ALL}
