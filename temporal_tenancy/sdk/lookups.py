"""Asking the Temporal server for what it may not have, or no longer."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final, TypeVar

from temporalio.api.errordetails.v1 import NamespaceNotFoundFailure
from temporalio.service import RPCError, RPCStatusCode

T = TypeVar("T")

# What a tenant's role has written as an id may be none: that is an invalid argument.
UNKNOWN: Final = (RPCStatusCode.NOT_FOUND, RPCStatusCode.INVALID_ARGUMENT)


async def if_known(asked: Awaitable[T]) -> T | None:
    """What the server says of a run or a schedule; None where it knows none of that id.

    Raises:
        RPCError: it does not answer, or lacks the whole namespace, which says nothing of the id.
    """
    try:
        return await asked
    except RPCError as error:
        if error.status not in UNKNOWN or is_namespace_missing(error):
            raise
        return None


def is_namespace_missing(error: RPCError) -> bool:
    """Whether what the server does not find is the namespace."""
    failure = NamespaceNotFoundFailure.DESCRIPTOR
    return any(detail.Is(failure) for detail in error.grpc_status.details)
