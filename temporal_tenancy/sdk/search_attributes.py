"""The search attributes that every run carries, and their registration on the server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import (
    AddSearchAttributesRequest,
    ListSearchAttributesRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.scope import _outside
from temporal_tenancy.sdk.agreement import JOB, TENANT_ID

KEYWORD: Final = IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD
SEARCH_ATTRIBUTES: Final = (TENANT_ID.name, JOB.name)
"""The names of the search attributes, both of type Keyword, that every run has."""
# The account may not look or register, as in a managed namespace.
MAY_NOT: Final = (RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNIMPLEMENTED)


class SearchAttributesMissing(ConfigurationError):
    """The namespace lacks a search attribute that every run has."""

    @property
    def sentence(self) -> str:
        """The type and the message, as people see them."""
        return f"{type(self).__name__}: {self}"


async def missing_search_attributes(client: Client) -> Sequence[str]:
    """Returns the names that the client's namespace does not have as Keyword.

    Raises:
        RPCError: the server does not answer, or the account may not list them.
    """
    known = await _known(client)
    return [name for name in SEARCH_ATTRIBUTES if known.get(name) != KEYWORD]


async def require_search_attributes(client: Client) -> None:
    """Checks that the client's namespace has the search attributes; changes nothing.

    An account that may not list them, as in a managed namespace, passes.

    Raises:
        SearchAttributesMissing: the namespace lacks one, or has it with another type.
        RPCError: the server does not answer.
    """
    try:
        with _outside():  # a worker serves all tenants, even if it is made inside a scope
            missing = await missing_search_attributes(client)
    except RPCError as error:
        if error.status in MAY_NOT:
            return
        raise
    if missing:
        raise SearchAttributesMissing(
            f"the namespace {client.namespace!r} has no search attribute "
            f"{' and '.join(sorted(missing))} of type Keyword. Register each once: "
            '"tenancy schedules apply" does so, or "temporal operator search-attribute create '
            '--type Keyword --name ...".'
        )


async def register_search_attributes(client: Client) -> Sequence[str]:
    """Registers the missing names in the client's namespace, and returns them.

    Raises:
        SearchAttributesMissing: a name exists with another type, or the account may not register
            the missing ones.
        RPCError: the server does not answer, or the account may not list the names.
    """
    known = await _known(client)
    names = [name for name in SEARCH_ATTRIBUTES if name not in known]
    wrong = [name for name in SEARCH_ATTRIBUTES if known.get(name, KEYWORD) != KEYWORD]
    if wrong:
        raise SearchAttributesMissing(
            f"the namespace {client.namespace!r} has the search attribute {' and '.join(wrong)} "
            "with another type than Keyword. Remove it there, or use another namespace."
        )
    if not names:
        return names
    try:
        await client.operator_service.add_search_attributes(
            AddSearchAttributesRequest(
                namespace=client.namespace, search_attributes=dict.fromkeys(names, KEYWORD)
            )
        )
    except RPCError as error:
        if error.status in MAY_NOT:
            raise SearchAttributesMissing(
                f"this account may not register {' and '.join(names)} in the namespace "
                f"{client.namespace!r}. Add each, as Keyword, with an account that may; in "
                "Temporal Cloud, in the namespace's settings."
            ) from None
        # Somebody else has registered them at the same time.
        if error.status is not RPCStatusCode.ALREADY_EXISTS:
            raise
    return names


async def _known(client: Client) -> Mapping[str, int]:
    """Returns the types of the namespace's own search attributes, by name."""
    listed = await client.operator_service.list_search_attributes(
        ListSearchAttributesRequest(namespace=client.namespace)
    )
    return listed.custom_attributes
