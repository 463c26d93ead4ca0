"""Requests without an answer, because the server or a proxy before it closed the connection."""

from __future__ import annotations

from typing import Final

from temporalio.service import RPCError

# The words of tonic, h2 and hyper, by which the SDK's core sends requests. Their status is UNKNOWN,
# INTERNAL or CANCELLED, which may also be a server's answer to one request.
_WORDS: Final = ("transport error", "h2 protocol error", "operation was canceled")


def is_connection_lost(error: RPCError) -> bool:
    """Whether the connection was closed, so that nobody has answered the request."""
    return error.message.startswith(_WORDS)
