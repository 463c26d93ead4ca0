"""Lookups on the Temporal server of what it may not have, or have no longer."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final, TypeVar

from temporalio.api.errordetails.v1 import NamespaceNotFoundFailure
from temporalio.service import RPCError, RPCStatusCode

T = TypeVar("T")

# INVALID_ARGUMENT: an id that a tenant's role wrote may not be a valid one.
UNKNOWN: Final = (RPCStatusCode.NOT_FOUND, RPCStatusCode.INVALID_ARGUMENT)


class NamespaceUnready(RPCError):
    """The server has the namespace, and could not look it up for a request. It may the next time.

    A server says that it lacks the namespace whatever kept it from looking, such as a database that
    is slow, or that it has only just started.
    """

    def __init__(self, namespace: str) -> None:
        """`namespace` is what the server has."""
        super().__init__(
            f'could not look up the namespace "{namespace}", though it has it: it is slow, or has '
            "only just started. Try again.",
            RPCStatusCode.UNAVAILABLE,
            b"",
        )


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
    return missing_namespace(error) is not None


def missing_namespace(error: RPCError) -> str | None:
    """Returns the namespace that the error says is missing; None if it says nothing of one."""
    for detail in error.grpc_status.details:
        if detail.Is(NamespaceNotFoundFailure.DESCRIPTOR):
            failure = NamespaceNotFoundFailure()
            detail.Unpack(failure)
            return failure.namespace
    return None
