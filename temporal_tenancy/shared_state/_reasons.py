"""Why Redis does not serve, in a sentence without the password of its URL."""

from __future__ import annotations

import ssl

from redis.exceptions import (
    AskError,
    AuthenticationError,
    ClusterError,
    InvalidResponse,
    NoPermissionError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

NOT_REDIS = "what answers there is not Redis. Correct the address, or rediss:// where it has TLS."


def reason(error: BaseException, *, tls: bool = False) -> str:
    """Returns what is wrong and what to do, for an error of the client; `tls`: by its URL."""
    for each in _causes(error):
        if isinstance(each, ssl.SSLCertVerificationError):
            return "its certificate is not trusted. Name its authority with ?ssl_ca_certs=FILE."
        if isinstance(each, ssl.SSLError):
            return "it does not speak TLS. Use redis://, or the port that has TLS."
        if isinstance(each, AuthenticationError) or _says(each, "WRONGPASS", "NOAUTH"):
            return "it rejects the user or the password. Correct the URL."
        if isinstance(each, NoPermissionError):
            return "its user may not do this. Allow it the keys tenancy:* and the scripts."
        if isinstance(each, ReadOnlyError):
            return "it is a replica, which takes no writes. Name the primary."
        if isinstance(each, (AskError, ClusterError)):  # a moved slot is told as one that is asked
            return (
                "it is a node of a cluster, and the keys are on another one. Name a proxy that "
                "finds it, or a server of its own."
            )
        if isinstance(each, InvalidResponse):
            return NOT_REDIS
        if isinstance(each, ResponseError):
            return f"it refused: {str(each).rstrip('.')}."
    if isinstance(error, TimeoutError) or "Timeout" in type(error).__name__:
        if tls:  # Redis without TLS waits for more of what it takes for a command
            return "it does not answer in time, or does not speak TLS. Try redis:// there."
        return "it does not answer in time."
    # A server of TLS, and most others, close the connection on what they do not understand.
    if "closed by server" in str(error):
        return f"it closed the connection: it restarts, or {NOT_REDIS}"
    return "it cannot be reached."


def _causes(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    waiting: BaseException | None = error
    while waiting is not None and waiting not in found:
        found.append(waiting)
        waiting = waiting.__cause__ or waiting.__context__
    return found


def _says(error: BaseException, *codes: str) -> bool:
    return isinstance(error, RedisError) and any(code in str(error) for code in codes)
