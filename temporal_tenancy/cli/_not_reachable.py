"""Servers that do not answer, named with what a person can do about it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from temporalio.service import RPCError, RPCStatusCode

from temporal_tenancy.postgres.database_errors import DatabaseUnreachable
from temporal_tenancy.sdk.lookups import is_namespace_missing

AWAY: Final = (RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED)  # no answer
_CLOSED: Final = (RPCStatusCode.UNAUTHENTICATED, RPCStatusCode.PERMISSION_DENIED)
_CORE_REASON: Final = re.compile(r'(?:message: |error: |error", )"([^"]+)"')


class NotReachable(Exception):
    """Something that is needed does not answer."""

    def __init__(self, message: str | None = None) -> None:
        """`message` names what does not answer, without credentials, and how to start it."""
        self.message = message or type(self).__doc__ or ""
        super().__init__(self.message)

    @property
    def sentence(self) -> str:
        """What a person is shown: the type and the message."""
        return f"{type(self).__name__}: {self.message}"


@dataclass(frozen=True)
class Advice:
    """What a person does about a server that does not answer: sentences, or nothing."""

    database: str = ""  # if it does not answer
    login: str = ""  # it refuses a role's password
    temporal: str = ""
    namespace: str = "Create it."  # if Temporal has none of that name


@contextmanager
def reaching(
    address: Callable[[], tuple[str, str]] | None = None,
    advice: Advice | None = None,
    *,
    connecting: bool = False,
) -> Iterator[None]:
    """Raises `NotReachable` for whatever fails in the block because a server is away.

    Args:
        address: returns Temporal's address and namespace, which the message names then; it is
            called for a failure only.
        advice: what a person does about it.
        connecting: whether the block is `Client.connect()`, which raises `RuntimeError`.
    """
    advice = advice or Advice()
    try:
        yield
    except RuntimeError as error:
        if not connecting:
            raise
        raise _temporal_away(address, error, advice) from None
    except DatabaseUnreachable as error:
        closed = "authentication failed" in error.message
        raise NotReachable(
            _join(error.message, advice.login if closed else advice.database)
        ) from None
    except RPCError as error:
        if error.status in (*AWAY, *_CLOSED):
            raise _temporal_away(address, error, advice) from None
        if is_namespace_missing(error):
            found = "the Temporal server lacks the client's namespace."
            if address is not None:
                server, namespace = address()
                found = f'{server} has no namespace "{namespace}".'
            raise NotReachable(_join(found, advice.namespace)) from None
        raise


def _temporal_away(
    address: Callable[[], tuple[str, str]] | None, error: Exception, advice: Advice
) -> NotReachable:
    server = "the Temporal server" if address is None else f"the Temporal server {address()[0]}"
    return NotReachable(_join(f"{server} does not answer: {_first_line(error)}.", advice.temporal))


def _first_line(error: Exception) -> str:
    """The innermost reason that the SDK's core gives, or the message's first line."""
    text = str(error).strip() or type(error).__name__
    reasons = _CORE_REASON.findall(text)
    return (reasons[-1] if reasons else text.splitlines()[0]).rstrip(".")


def _join(sentence: str, advice: str) -> str:
    return f"{sentence} {advice}" if advice else sentence
