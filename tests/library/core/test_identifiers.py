"""Tenant ids, workflow ids and keys."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from temporal_tenancy.core.errors import (
    KeyInvalid,
    TenantInvalid,
    TenantMismatch,
    TenantMissing,
)
from temporal_tenancy.core.identifiers import (
    WorkflowId,
    scoped_key,
    tenant_folder,
    tenant_id,
    tenant_of_folder,
)

TENANT_IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", fullmatch=True).filter(
    lambda value: value.lower() != "platform"
)
KEYS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=60)
KINDS = st.from_regex(r"[a-z._]{1,20}", fullmatch=True)


@given(TENANT_IDS)
def test_what_the_pattern_allows_is_a_tenant_id(value: str) -> None:
    assert tenant_id(value) == value
    assert len(value.encode()) <= 63


@pytest.mark.parametrize(
    "value",
    [
        *("*", "a/b", "a b", " a", "a\n", "-a", "_A", "é", "É", "a" * 64, "a\x00", 7, b"a"),
        *("platform", "Platform", "PLATFORM", "\u212a1", "\u017f"),
    ],
)
def test_anything_else_is_not(value: object) -> None:
    with pytest.raises(TenantInvalid):
        tenant_id(value)


def test_an_id_from_another_product_is_one() -> None:
    assert tenant_id("org_01EHZNVPK3SFK441A1RGBFSHRT") == "org_01EHZNVPK3SFK441A1RGBFSHRT"


@st.composite
def pairs(draw: st.DrawFn) -> tuple[str, str]:
    """Two tenant ids that differ only by case, or are the same."""
    one = draw(TENANT_IDS)
    capitals = draw(st.lists(st.booleans(), min_size=len(one), max_size=len(one)))
    other = "".join(
        letter.upper() if capital else letter.lower()
        for letter, capital in zip(one, capitals, strict=True)
    )
    return one, other


@given(pairs())
def test_ids_that_differ_by_case_have_folders_that_differ_without_it(ids: tuple[str, str]) -> None:
    one, other = ids
    assert (tenant_folder(one).casefold() == tenant_folder(other).casefold()) == (one == other)


@given(TENANT_IDS, TENANT_IDS)
def test_no_two_ids_have_one_folder(one: str, other: str) -> None:
    assert (tenant_folder(one).casefold() == tenant_folder(other).casefold()) == (one == other)


@given(TENANT_IDS)
def test_a_folder_names_its_tenant(value: str) -> None:
    assert tenant_of_folder(tenant_folder(value)) == value
    assert tenant_folder(value.lower()) == value.lower()  # as in earlier releases


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "A", "a/b", "platform", "platform.1", "x" * 64),
        *("acme.", "acme.0", "acme.01", "acme.10", "1.1", "acme.f.f", "acme.F"),
    ],
)
def test_what_is_no_tenants_folder_names_nobody(name: str) -> None:
    with pytest.raises(TenantInvalid):
        tenant_of_folder(name)


@pytest.mark.parametrize("value", [None, ""])
def test_nothing_is_a_missing_tenant(value: object) -> None:
    with pytest.raises(TenantMissing):
        tenant_id(value)


def test_a_long_bad_id_is_not_repeated_in_full() -> None:
    with pytest.raises(TenantInvalid) as caught:
        tenant_id("x!" * 10_000)
    assert len(caught.value.message) < 250


@given(TENANT_IDS, KEYS)
def test_a_workflow_id_reads_back_as_it_was_built(tenant: str, key: str) -> None:
    built = WorkflowId(tenant, "billing.cycle", key)
    assert WorkflowId.parse(str(built)) == built
    assert built.tenant == tenant


@given(st.tuples(TENANT_IDS, KINDS, KEYS), st.tuples(TENANT_IDS, KINDS, KEYS))
def test_two_keys_are_equal_only_when_all_their_parts_are(
    one: tuple[str, str, str], other: tuple[str, str, str]
) -> None:
    assert (scoped_key(*one) == scoped_key(*other)) == (one == other)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "acme",
        "acme/job",
        "acme//key",
        "/job/key",
        "acme/job/",
        "-/b.c/d",
        "*/b.c/d",
        "Platform/b.c/d",
        "a/b/\n",
    ],
)
def test_what_is_not_three_segments_is_no_workflow_id(value: str) -> None:
    with pytest.raises(TenantMismatch):
        WorkflowId.parse(value)


def test_the_platforms_workflow_id_has_no_tenant() -> None:
    assert WorkflowId.parse("platform/billing.cycle/tick/shard-0").tenant is None


def test_an_id_that_no_store_holds_is_refused() -> None:
    with pytest.raises(KeyInvalid, match="shorter key"):
        WorkflowId("acme", "billing.cycle", "k" * 300)


@pytest.mark.parametrize("key", ["", "a\nb", "\x00", "\ud800", 7])
def test_a_key_that_is_not_printable_has_its_own_error(key: Any) -> None:
    with pytest.raises(KeyInvalid, match=r"^KeyInvalid: a key must be printable text"):
        WorkflowId("acme", "billing.cycle", key)


def test_the_kind_of_a_key_has_no_slash() -> None:
    with pytest.raises(ValueError, match="kind of a key"):
        scoped_key("acme", "lock/x", "y")
