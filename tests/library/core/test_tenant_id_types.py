"""Tenant ids of a declared type: each tenant has one spelling."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from temporal_tenancy.control_plane.tables import LedgerState
from temporal_tenancy.core.directory import CachedDirectory, Tenant, TenantStatus
from temporal_tenancy.core.errors import (
    ConfigurationError,
    TenantInvalid,
    TenantMismatch,
    TenantUnknown,
)
from temporal_tenancy.core.identifiers import TenantId, WorkflowId, scoped_key, tenant_id
from temporal_tenancy.core.jobs import Job, job_of
from temporal_tenancy.core.scope import TenantScope, enter
from temporal_tenancy.core.tenant_id_types import (
    BIGINT_MAX,
    TenantIdType,
    declare_tenant_ids,
    declared_type,
    is_canonical,
    spelling_of,
    value_of,
)
from temporal_tenancy.core.tenant_state import refusal, require_runnable, require_startable
from temporal_tenancy.testing import InMemoryDirectory, make_tenant
from temporal_tenancy.ticks.fan_out.planning import planned
from tests.fixtures.jobs.hops import Echo
from tests.fixtures.tenant_columns import own_tenant_types

ONE = "0192f0c1-2b4d-7e8f-9abc-def012345678"
MISSPELT: dict[TenantIdType, list[str]] = {
    "uuid": [
        ONE.upper(),
        ONE.replace("-", ""),
        ONE.capitalize().replace("f", "F"),
        f"urn-{ONE}",
        ONE[:-1],
        f"{ONE}0",
        "acme",
        "7",
    ],
    "bigint": [
        *("07", "0x7", "00", "1e3", "7_0", "7-", "acme", "A7", ONE),
        *(str(BIGINT_MAX + 1), "9" * 19, "1" * 20, "0b1", "0o7", "1L"),
    ],
}
CASES = [(kind, each) for kind, spellings in MISSPELT.items() for each in spellings]


def echo() -> Job:
    job = job_of(Echo)
    assert job is not None
    return job


@pytest.fixture(autouse=True)
def _own_types() -> Iterator[None]:
    with own_tenant_types():
        yield


@pytest.mark.parametrize(("kind", "misspelt"), CASES)
def test_a_second_spelling_is_refused_on_entering(kind: TenantIdType, misspelt: str) -> None:
    with enter(TenantScope(misspelt)):
        pass  # text, until a type is declared
    declare_tenant_ids(kind)
    with pytest.raises(TenantInvalid, match=f"(?i)is not a {kind} as PostgreSQL"):
        enter(TenantScope(misspelt))
    with pytest.raises(TenantInvalid):
        TypeAdapter(TenantId).validate_python(misspelt)
    with pytest.raises(TenantInvalid):
        scoped_key(misspelt, "lock", "x")
    with pytest.raises(TenantMismatch):
        WorkflowId.parse(f"{misspelt}/a.b/c")


@pytest.mark.parametrize("odd", [" 7", "+7", "-7", "٧", "7 ", "7\n", "７", f"{{{ONE}}}"])
@pytest.mark.parametrize("kind", ["text", "uuid", "bigint"])
def test_what_is_no_id_at_all_is_refused_for_every_type(kind: TenantIdType, odd: str) -> None:
    declare_tenant_ids(kind)
    with pytest.raises(TenantInvalid):
        tenant_id(odd)


@given(st.uuids())
def test_a_uuid_as_postgresql_writes_it_is_an_id(value: UUID) -> None:
    assert is_canonical(str(value), "uuid")
    assert value_of(str(value), "uuid") == value
    assert spelling_of(value, "uuid") == spelling_of(str(value).upper(), "uuid") == str(value)


@given(st.integers(0, BIGINT_MAX))
def test_a_bigint_as_postgresql_writes_it_is_an_id(value: int) -> None:
    assert is_canonical(str(value), "bigint")
    assert value_of(str(value), "bigint") == value
    assert spelling_of(value, "bigint") == str(value)


@given(st.text("0123456789abcdefxABCDEF-_+ .eE٧", max_size=40))
def test_each_value_has_one_canonical_spelling(spelling: str) -> None:
    for kind in ("uuid", "bigint"):
        if is_canonical(spelling, kind):
            assert str(value_of(spelling, kind)) == spelling


@pytest.mark.parametrize("value", [None, True, 7.0, "07", -7, BIGINT_MAX + 1, b"7", ONE, UUID(ONE)])
def test_what_is_no_bigint_names_no_tenant(value: object) -> None:
    assert spelling_of(value, "bigint") is None


@pytest.mark.parametrize("value", [None, 7, "7", "", b"", f"{ONE}0"])
def test_what_is_no_uuid_names_no_tenant(value: object) -> None:
    assert spelling_of(value, "uuid") is None


def test_text_stands_beside_another_type_and_two_others_do_not() -> None:
    declare_tenant_ids("text")
    assert declared_type() == "text"
    for _ in range(2):
        declare_tenant_ids("uuid")
        declare_tenant_ids("text")
    assert declared_type() == "uuid"
    with pytest.raises(ConfigurationError, match="are uuid, so they cannot be bigint"):
        declare_tenant_ids("bigint")
    with pytest.raises(ConfigurationError, match="not 'integer'"):
        declare_tenant_ids("integer")  # type: ignore[arg-type]
    assert declared_type() == "uuid"


def test_a_tenant_that_the_directory_spells_otherwise_runs_nothing() -> None:
    """The record can be read, so one such row stops nobody else's fan-out."""
    declare_tenant_ids("bigint")
    tenant = make_tenant("07")
    refused = refusal(tenant, echo())
    assert isinstance(refused, TenantInvalid)
    with pytest.raises(TenantInvalid):
        require_runnable("07", tenant, echo())
    entry = planned(echo(), tenant, "2013-04", datetime.now(UTC))
    assert (entry.state, entry.error_type) == (LedgerState.SKIPPED, "TenantInvalid")


@pytest.mark.parametrize("check", [require_runnable, require_startable])
def test_a_record_of_another_id_is_no_record(check: object) -> None:
    assert callable(check)
    for status in (TenantStatus.ACTIVE, TenantStatus.SUSPENDED):
        with pytest.raises(TenantUnknown, match="there is no tenant 07"):
            check("07", make_tenant("7", status), echo())


class Lenient(InMemoryDirectory):
    """A directory over a bigint column: it reads `07` as 7, as the database does."""

    async def find(self, tenant_id: str) -> Tenant | None:
        return await super().find(str(int(tenant_id)))

    async def find_many(self, tenant_ids: object) -> list[Tenant]:
        assert isinstance(tenant_ids, set | list | frozenset)
        return list(await super().find_many([str(int(each)) for each in tenant_ids]))


async def test_a_directory_that_answers_with_another_tenant_has_not_found_it() -> None:
    directory = CachedDirectory(Lenient([make_tenant("7")]))
    assert await directory.find("07") is None
    assert await directory.find_many(["07"]) == []
    found = await directory.find("7")
    assert found is not None
    assert found.id == "7"
