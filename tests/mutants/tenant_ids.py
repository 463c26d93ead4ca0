"""The mutants of tenant ids: their case, their spelling, and the columns that hold them."""

from __future__ import annotations

from typing import Final

from sqlalchemy.orm import with_loader_criteria

from saas.services import links, object_storage, secrets
from temporal_tenancy.core import identifiers, tenant_state
from temporal_tenancy.core.directory import CachedDirectory
from temporal_tenancy.core.tenant_id_types import TenantIdType
from temporal_tenancy.lint import catalogue
from temporal_tenancy.postgres import row_security, tenant_owned
from temporal_tenancy.postgres.row_security import CURRENT_TENANT
from temporal_tenancy.postgres.tenant_owned import TenantOwned
from tests.mutants.mutant import Mutant, replace

COLUMNS: Final = "tests/isolation/test_tenant_columns.py"
TYPES: Final = "tests/library/core/test_tenant_id_types.py"
IDENTIFIERS: Final = "tests/library/core/test_identifiers.py"
CONTROL_PLANE: Final = "tests/library/control_plane/test_control_plane.py"
STORAGE: Final = "tests/saas/services/test_object_storage.py"
SECRETS: Final = "tests/saas/services/test_secrets.py"
LINKS: Final = "tests/saas/services/test_links.py"

_SOUND: Final = f"{COLUMNS}::test_what_protect_makes_is_without_findings"
_INDEXED: Final = f"{COLUMNS}::test_the_policys_rule_is_an_index_condition"
_OWN_ROWS: Final = f"{COLUMNS}::test_a_tenant_sees_its_own_rows_and_without_one_there_are_none"
_FOREIGN: Final = f"{COLUMNS}::test_another_tenants_row_is_refused"
_BY_CASE: Final = "ids_that_differ_by_case_have"


def _rule_of(rule: str) -> None:
    """Changes the policies of columns that are not text; the migrations make those of text."""
    sound = row_security._rule

    def changed(column: str, type: TenantIdType) -> str:
        return sound(column, type) if type == "text" else rule.format(column=column, type=type)

    replace(row_security, "_rule", changed)


def _reserve_one_case_only() -> None:
    well_formed = identifiers.well_formed

    def lenient(value: object) -> str:
        return str(value) if value in ("Platform", "PLATFORM") else well_formed(value)

    replace(identifiers, "well_formed", lenient)


def _name_folders_by_the_id() -> None:
    for module in (object_storage, secrets, links):
        replace(module, "tenant_folder", lambda tenant: tenant)


def _check_the_value_alone() -> None:
    sound = row_security._check

    def changed(column: str, type: TenantIdType) -> str:
        value = f"{column} = {CURRENT_TENANT}::{type}"
        return sound(column, type) if type == "text" else value

    replace(row_security, "_check", changed)


def _take_earlier_policies() -> None:
    types, ids, releases, *rules = catalogue._RULES
    replace(catalogue, "_RULES", [types, ids, ["this"] * len(releases), *rules])


def _filter_only_the_usual_column() -> None:
    replace(
        tenant_owned,
        "_only_of",
        lambda tenant: [
            with_loader_criteria(
                TenantOwned, lambda owned: owned.tenant_id == tenant, include_aliases=True
            )
        ],
    )


TENANT_ID_FAULTS: Final = [
    Mutant(
        "second-spelling-entered",
        "a tenant may be entered by another spelling of its id",
        (
            f"{TYPES}::test_a_second_spelling_is_refused_on_entering",
            f"{COLUMNS}::test_a_tenant_of_another_kind_is_refused_before_anything_is_sent",
        ),
        seed=lambda: replace(identifiers, "misspelling", lambda tenant, type: None),
    ),
    Mutant(
        "record-of-another-spelling",
        "a directory may answer with a tenant of another id",
        (f"{TYPES}::test_a_directory_that_answers_with_another_tenant_has_not_found_it",),
        seed=lambda: replace(
            CachedDirectory, "_look_up", lambda cached, ids: cached.directory.find_many(ids)
        ),
    ),
    Mutant(
        "record-believed",
        "a record counts as the tenant's whatever its id",
        (f"{TYPES}::test_a_record_of_another_id_is_no_record",),
        seed=lambda: replace(tenant_state, "_is_another", lambda *given: False),
    ),
    Mutant(
        "platform-in-capitals",
        "a tenant may have the platform's id in another case",
        (f"{IDENTIFIERS}::test_anything_else_is_not",),
        seed=_reserve_one_case_only,
    ),
    Mutant(
        "platform-in-capitals-added",
        "the database takes the platform's id in another case",
        (f"{CONTROL_PLANE}::test_the_database_takes_no_malformed_id_either",),
        schema="""
            alter table tenancy.tenants drop constraint ck_tenants_id, add constraint ck_tenants_id
                check (id ~ '^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$' and id <> 'platform')
        """,
    ),
    Mutant(
        "ids-alike",
        "two tenants' ids may differ only by case",
        (
            f"{CONTROL_PLANE}::test_the_database_takes_no_two_ids_that_differ_only_by_case",
            f"{CONTROL_PLANE}::test_an_id_that_differs_only_by_case_is_taken",
        ),
        schema="drop index tenancy.uq_tenants_lower_id",
    ),
    Mutant(
        "folders-alike",
        "tenants whose ids differ only by case share a folder where case does not count",
        (
            f"{STORAGE}::test_{_BY_CASE}_objects_of_their_own_where_case_does_not_count",
            f"{SECRETS}::test_{_BY_CASE}_credentials_of_their_own",
            f"{LINKS}::test_a_link_opens_the_object_of_the_tenant_in_its_own_case",
        ),
        seed=_name_folders_by_the_id,
    ),
    Mutant(
        "policy-by-text",
        "the policy compares the column's text, which no index serves",
        (_SOUND, _INDEXED),
        seed=lambda: _rule_of(f"{{column}}::text = {CURRENT_TENANT}"),
    ),
    Mutant(
        "policy-of-another-column",
        "the policy compares another column than the tenant's",
        (_OWN_ROWS,),
        seed=lambda: _rule_of(f"id = {CURRENT_TENANT}::bigint"),
    ),
    Mutant(
        "policy-of-an-empty-setting",
        "the policy casts the setting that an earlier transaction has left empty",
        (_SOUND, _OWN_ROWS),
        seed=lambda: _rule_of("{column} = current_setting('app.tenant_id', true)::{type}"),
    ),
    Mutant(
        "policy-of-any-spelling",
        "the policy takes every spelling of an id that PostgreSQL reads as the same value",
        (
            f"{COLUMNS}::test_a_second_spelling_has_no_rows_and_writes_none",
            f"{COLUMNS}::test_a_setting_shows_rows_only_where_it_is_the_id",
            _SOUND,
        ),
        seed=lambda: _rule_of(f"{{column}} = {CURRENT_TENANT}::{{type}}"),
    ),
    Mutant(
        "rows-of-any-spelling-written",
        "the policy accepts rows for every spelling of an id",
        (f"{COLUMNS}::test_a_second_spelling_has_no_rows_and_writes_none", _SOUND),
        seed=_check_the_value_alone,
    ),
    Mutant(
        "earlier-policy-unfound",
        "the lint takes a policy of an earlier release, which takes every spelling",
        (f"{COLUMNS}::test_a_policy_of_an_earlier_release_is_found_and_replaced",),
        seed=_take_earlier_policies,
    ),
    Mutant(
        "rights-granted-again",
        "protect() gives back the rights that an application has revoked since",
        (f"{COLUMNS}::test_a_policy_of_an_earlier_release_is_found_and_replaced",),
        seed=lambda: replace(row_security, "_is_protected", lambda *_: False),
    ),
    Mutant(
        "column-unchecked",
        "protect() takes a column of any type",
        (f"{COLUMNS}::test_a_column_that_holds_no_ids_is_refused_and_found",),
        seed=lambda: replace(row_security, "_refuse_column", lambda *_: None),
    ),
    Mutant(
        "made-class-unfiltered",
        "the ORM does not limit queries of a class with a column of its own",
        (f"{COLUMNS}::test_queries_name_the_tenant_themselves",),
        seed=_filter_only_the_usual_column,
    ),
    Mutant(
        "made-class-of-anyones",
        "the ORM takes another tenant's row of a class with a column of its own",
        (_FOREIGN,),
        seed=lambda: replace(tenant_owned, "_refuse_foreign", lambda *given: None),
    ),
    Mutant(
        "classes-unknown-to-the-lint",
        "the lint does not know the columns of the application's classes",
        (f"{COLUMNS}::test_a_fault_is_found",),
        seed=lambda: replace(catalogue, "tenant_columns", lambda: ["tenant_id"]),
    ),
    Mutant(
        "policies-believed-by-the-lint",
        "the lint believes a policy about which column is the tenant's",
        (f"{COLUMNS}::test_a_wrong_column_is_found_where_the_class_is_known",),
        seed=lambda: replace(catalogue, "tenant_tables", dict),
    ),
]
