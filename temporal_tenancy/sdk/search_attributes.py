"""The search attributes that every run carries, and their registration on the server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import (
    AddSearchAttributesRequest,
    ListSearchAttributesRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from temporal_tenancy.sdk.agreement import JOB, TENANT_ID

KEYWORD: Final = IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD
SEARCH_ATTRIBUTES: Final = (TENANT_ID.name, JOB.name)
"""The names of the search attributes, both of type Keyword, that every run has."""


async def missing_search_attributes(client: Client) -> Sequence[str]:
    """Returns the names that the client's namespace does not have as Keyword.

    Raises:
        RPCError: the server does not answer, or the account may not list them.
    """
    listed = await client.operator_service.list_search_attributes(
        ListSearchAttributesRequest(namespace=client.namespace)
    )
    return [name for name in SEARCH_ATTRIBUTES if listed.custom_attributes.get(name) != KEYWORD]


async def register_search_attributes(client: Client) -> Sequence[str]:
    """Registers the missing names in the client's namespace, and returns them.

    Raises:
        RPCError: a name exists with another type, or the account may not register it (in Temporal
            Cloud: add TenantId and Job, both Keyword, to the namespace by hand).
    """
    names = await missing_search_attributes(client)
    if names:
        try:
            await client.operator_service.add_search_attributes(
                AddSearchAttributesRequest(
                    namespace=client.namespace, search_attributes=dict.fromkeys(names, KEYWORD)
                )
            )
        except RPCError as error:
            # Another worker, which started at the same time, has registered them.
            if error.status is not RPCStatusCode.ALREADY_EXISTS:
                raise
    return names
