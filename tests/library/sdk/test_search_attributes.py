"""The search attributes of a namespace: registered on request, and only then."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import (
    AddSearchAttributesRequest,
    ListSearchAttributesResponse,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from dev.devstack.temporal_server import TemporalDevServer
from temporal_tenancy.sdk import (
    SEARCH_ATTRIBUTES,
    SearchAttributesMissing,
    missing_search_attributes,
    register_search_attributes,
    require_search_attributes,
)


@pytest.fixture
async def bare(temporal: TemporalDevServer, bare_namespace: str) -> Client:
    """A client of a namespace without search attributes."""
    return await Client.connect(temporal.address, namespace=bare_namespace)


def managed(listed: RPCStatusCode | None, added: RPCStatusCode) -> Client:
    """A client whose account may not register, as no server here refuses it."""

    async def list_search_attributes(request: object) -> ListSearchAttributesResponse:
        if listed is not None:
            raise RPCError("no", listed, b"")
        return ListSearchAttributesResponse()

    async def add_search_attributes(request: object) -> None:
        raise RPCError("no", added, b"")

    service = SimpleNamespace(
        list_search_attributes=list_search_attributes, add_search_attributes=add_search_attributes
    )
    client: Any = SimpleNamespace(operator_service=service, namespace="managed.a2dd6")
    return cast(Client, client)


async def test_a_check_registers_nothing_and_a_registration_what_is_missing(bare: Client) -> None:
    with pytest.raises(SearchAttributesMissing, match="has no search attribute Job and TenantId"):
        await require_search_attributes(bare)
    assert await missing_search_attributes(bare) == list(SEARCH_ATTRIBUTES)
    assert await register_search_attributes(bare) == list(SEARCH_ATTRIBUTES)
    assert await register_search_attributes(bare) == []
    await require_search_attributes(bare)


async def test_a_name_of_another_type_is_neither_good_nor_replaced(bare: Client) -> None:
    number = IndexedValueType.INDEXED_VALUE_TYPE_INT
    await bare.operator_service.add_search_attributes(
        AddSearchAttributesRequest(namespace=bare.namespace, search_attributes={"Job": number})
    )
    with pytest.raises(SearchAttributesMissing, match="Job with another type than Keyword"):
        await register_search_attributes(bare)
    with pytest.raises(SearchAttributesMissing, match="Job and TenantId of type Keyword"):
        await require_search_attributes(bare)


@pytest.mark.parametrize("status", [RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNIMPLEMENTED])
async def test_an_account_that_may_not_register_them_is_told_what_to_do(
    status: RPCStatusCode,
) -> None:
    with pytest.raises(SearchAttributesMissing, match=r"may not register .* in Temporal Cloud"):
        await register_search_attributes(managed(None, status))
    await require_search_attributes(managed(status, status))  # nor may it look


async def test_a_server_that_is_away_is_no_missing_attribute() -> None:
    away = managed(RPCStatusCode.UNAVAILABLE, RPCStatusCode.UNAVAILABLE)
    with pytest.raises(RPCError):
        await require_search_attributes(away)
