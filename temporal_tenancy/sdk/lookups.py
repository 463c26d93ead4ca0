"""Lookups on the Temporal server of what it may not have, or have no longer."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final, TypeVar

from temporalio.api.errordetails.v1 import NamespaceNotFoundFailure
from temporalio.service import RPCError, RPCStatusCode

T = TypeVar("T")

# INVALID_ARGUMENT: an id that a tenant's role wrote may not be a valid one.
UNKNOWN: Final = (RPCStatusCode.NOT_FOUND, RPCStatusCode.INVALID_ARGUMENT)


async def if_known(lookup: Awaitable[T]) -> T | None:
    """Returns the answer of a lookup by id; None if the server has nothing under that id.

    Args:
        lookup: a call that asks for one run or schedule.

    Raises:
        RPCError: the server does not answer, or lacks the whole namespace, which says nothing
            about the id.
    """
    try:
        return await lookup
    except RPCError as error:
        if error.status not in UNKNOWN or is_namespace_missing(error):
            raise
        return None


def is_namespace_missing(error: RPCError) -> bool:
    """Whether the error says that the namespace is missing, and not what is in it."""
    failure = NamespaceNotFoundFailure.DESCRIPTOR
    return any(detail.Is(failure) for detail in error.grpc_status.details)
