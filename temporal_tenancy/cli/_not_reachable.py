"""Errors for servers that do not answer, with advice."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from temporalio.service import RPCError, RPCStatusCode

from temporal_tenancy.cli._temporal_config import temporal_config
from temporal_tenancy.cli._temporal_refusals import refusal, unusable
from temporal_tenancy.cli.program import current_program
from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.problems import Problem
from temporal_tenancy.postgres.database_errors import DatabaseUnreachable
from temporal_tenancy.postgres.database_urls import database_url
from temporal_tenancy.postgres.silent_servers import SILENT
from temporal_tenancy.sdk.lookups import NamespaceUnready, is_namespace_missing
from temporal_tenancy.sdk.lost_connections import is_connection_lost
from temporal_tenancy.sdk.throttling import is_throttled

AWAY: Final = (RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED)  # no answer
_CLOSED: Final = (RPCStatusCode.UNAUTHENTICATED, RPCStatusCode.PERMISSION_DENIED)
_CORE_REASON: Final = re.compile(r'(?:message: |error: |error", )"([^"]+)"')


class NotReachable(Problem):
    """A server that the command needs does not answer."""


class SettingMissing(NotReachable):
    """A setting that the command needs, such as a server's URL, is not set."""


@dataclass(frozen=True)
class Advice:
    """Advice for a server that does not answer: sentences, or empty strings."""

    database: str = ""  # if the database does not answer
    login: str = ""  # if the database rejects a role's password
    temporal: str = ""  # if Temporal does not answer
    namespace: str = "Create it."  # if Temporal does not have the namespace


@contextmanager
def reaching(
    address: Callable[[], tuple[str, str]] | None = None,
    advice: Advice | None = None,
    *,
    connecting: bool = False,
) -> Iterator[None]:
    """Raises `NotReachable` for errors in the block that mean that a server is unavailable.

    A client certificate with which no server could be asked is a `ConfigurationError`.

    Args:
        address: returns the address and namespace of `temporal_config` for the message; called only
            after a failure.
        advice: the advice that the message ends with.
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
        if error.of_store:  # the advice is about the application's own servers and settings
            raise NotReachable(error.message) from None
        refused = "authentication failed" in error.message
        raise NotReachable(
            _join(
                f"{_setting_of(error.role)}{error.message}",
                advice.login if refused else advice.database,
            )
        ) from None
    except NamespaceUnready as error:
        server = "" if address is None else f" {address()[0]}"
        raise NotReachable(f"the Temporal server{server} {error.message}") from None
    except RPCError as error:
        if error.status in (*AWAY, *_CLOSED) or is_connection_lost(error):
            raise _temporal_away(address, error, advice) from None
        if is_throttled(error):
            server = "the Temporal server" if address is None else _server(address)
            raise NotReachable(
                f"{server} is asked more than it answers: {_first_line(error)}. Wait a "
                "minute, and repeat this."
            ) from None
        if is_namespace_missing(error):
            problem = "the Temporal server lacks the client's namespace."
            if address is not None:
                server, namespace = address()
                problem = f'{server} has no namespace "{namespace}".'
            raise NotReachable(_join(problem, advice.namespace)) from None
        raise


def _setting_of(role: str | None) -> str:
    """Returns where the URL of `role` is set, for the beginning of a sentence; or nothing."""
    try:
        application = current_program().loaded
    except ConfigurationError:  # not on the command line
        return ""
    if application is None or role is None:
        return ""
    logins = (application.tenant, application.platform, application.relay, application.owner)
    for login in logins:
        if login.url is not None and database_url(login.url).username == role:
            return f"{login.setting}: "
    return ""


def _temporal_away(
    address: Callable[[], tuple[str, str]] | None, error: Exception, advice: Advice
) -> NotReachable | ConfigurationError:
    if said := unusable(error):
        return ConfigurationError(said)
    if address is None:
        server = "the Temporal server"
    else:
        server = _server(address)
        if reason := refusal(error, temporal_config()):
            return NotReachable(f"{server} {reason}")
    return NotReachable(_join(f"{server} does not answer: {_first_line(error)}.", advice.temporal))


def _server(address: Callable[[], tuple[str, str]]) -> str:
    return f"the Temporal server {address()[0]}"


def _first_line(error: Exception) -> str:
    """Returns the innermost reason of the SDK's core, or the message's first line."""
    if isinstance(error, RPCError) and error.status is RPCStatusCode.DEADLINE_EXCEEDED:
        return SILENT
    text = str(error).strip() or type(error).__name__
    reasons = _CORE_REASON.findall(text)
    return (reasons[-1] if reasons else text.splitlines()[0]).rstrip(".")


def _join(sentence: str, advice: str) -> str:
    return f"{sentence} {advice}" if advice else sentence
