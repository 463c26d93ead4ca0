"""Why a Temporal server cannot be used, from the errors of the SDK's core: TLS, and API keys."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from temporalio.envconfig import ClientConnectConfig
from temporalio.service import RPCError, RPCStatusCode

from temporal_tenancy.core.display import printable

_NAME_CHARACTERS: Final = 100  # of a name in a certificate
_AUTHORITY: Final = "TEMPORAL_TLS_SERVER_CA_CERT_PATH"
_CERTIFICATE: Final = "TEMPORAL_TLS_CLIENT_CERT_PATH and TEMPORAL_TLS_CLIENT_KEY_PATH"

# The server answered a request with a status of gRPC's.
_UNAUTHENTICATED: Final = re.compile(r"\bcode: Unauthenticated\b")
_DENIED: Final = re.compile(r"\bcode: PermissionDenied\b")


@dataclass(frozen=True)
class _Settings:
    """What decides which advice fits."""

    tls: bool
    client_certificate: bool
    api_key: bool


_Reason = Callable[["re.Match[str]", _Settings], str]


def refusal(error: Exception, config: ClientConnectConfig) -> str | None:
    """Returns what is wrong with TLS or the API key, and what to do; None for other errors.

    The text continues "the Temporal server … ". It never contains a key or a certificate.
    """
    settings = _settings(config)
    if isinstance(error, RPCError):
        if error.status is RPCStatusCode.UNAUTHENTICATED:
            return _unauthenticated(settings)
        if error.status is RPCStatusCode.PERMISSION_DENIED:
            return _denied(settings)
    text = str(error)
    for pattern, reason in _REASONS:
        if found := pattern.search(text):
            return reason(found, settings)
    return None


def unusable(error: Exception) -> str | None:
    """Returns which of Temporal's settings cannot be used with any server; None for other errors.

    It never contains a key or a certificate.
    """
    text = str(error)
    return next((said for pattern, said in _UNUSABLE if pattern.search(text)), None)


def _settings(config: ClientConnectConfig) -> _Settings:
    tls, api_key = config.get("tls"), config.get("api_key")
    return _Settings(
        tls=bool(tls) or (tls is None and bool(api_key)),  # a key turns TLS on
        client_certificate=bool(getattr(tls, "client_cert", None)),
        api_key=bool(api_key),
    )


def _unauthenticated(settings: _Settings) -> str:
    if settings.api_key:
        return "rejects the API key. Set TEMPORAL_API_KEY to one that is valid."
    return "wants credentials. Set TEMPORAL_API_KEY to an API key of the namespace."


def _denied(settings: _Settings) -> str:
    whose = "the API key" if settings.api_key else "this client"
    return (
        f"does not let {whose} do this. Give it the right, or set TEMPORAL_NAMESPACE to one where "
        "it has it."
    )


def _expired(found: re.Match[str]) -> str:
    ended = datetime.fromtimestamp(int(found[1]), UTC)
    return f"has a certificate that expired on {ended:%Y-%m-%d}. Renew it there."


def _other_name(found: re.Match[str]) -> str:
    expected, presented = (printable(text)[:_NAME_CHARACTERS] for text in found.groups())
    return (
        f'has a certificate for "{presented}", not for "{expected}". Set TEMPORAL_ADDRESS to a '
        "name that it is for, or TEMPORAL_TLS_SERVER_NAME to the one to expect."
    )


def _hung_up(settings: _Settings) -> str:
    if settings.client_certificate:
        return (
            f"closed the connection. It may not accept the client certificate of {_CERTIFICATE}: "
            "check which authorities it trusts, and when the certificate expires."
        )
    if settings.tls:
        return f"closed the connection. If it wants a client certificate, set {_CERTIFICATE}."
    return "closed the connection. If it wants TLS, set TEMPORAL_TLS to true."


# What the SDK's core says before it asks a server.
_UNUSABLE: Final = (
    (
        re.compile(r"InconsistentKeys"),
        f"the client certificate and the key are not of one pair. Set {_CERTIFICATE} to those that "
        "are.",
    ),
    (
        re.compile(r"PrivateKeyParseError|CertificateParseError|NoCertificatesPresented"),
        f"the client certificate or its key cannot be read. Set {_CERTIFICATE} to files in PEM.",
    ),
)

# The texts of rustls, h2 and hyper, by which the SDK's core connects. A test meets each of them.
_REASONS: Final[tuple[tuple[re.Pattern[str], _Reason], ...]] = (
    (
        re.compile(r"InvalidCertificate\((?:UnknownIssuer|BadSignature)"),
        lambda _, settings: (
            "has a certificate of no authority that this process trusts. "
            f"Set {_AUTHORITY} to the certificate of the one that issued it."
        ),
    ),
    (
        re.compile(r"InvalidCertificate\(Expired\w* ?\{?.*?not_after: UnixTime\((\d+)\)"),
        lambda found, _: _expired(found),
    ),
    (
        re.compile(r"InvalidCertificate\(NotValidYet"),
        lambda found, _: (
            "has a certificate that is not valid yet. Check the clocks of both machines."
        ),
    ),
    (
        re.compile(
            r'InvalidCertificate\(NotValidForName\w* ?\{ ?expected: \w+\("?([^")]*)"?\), '
            r'presented: \["\w+\(\\*"?([^\\")]*)'
        ),
        lambda found, _: _other_name(found),
    ),
    (
        re.compile(r"InvalidMessage\(InvalidContentType\)"),
        lambda _, settings: (
            "does not speak TLS at this address. Set TEMPORAL_ADDRESS to the one where it does"
            + (
                ", since an API key turns TLS on."
                if settings.api_key
                else ", or unset TEMPORAL_TLS*."
            )
        ),
    ),
    (
        re.compile(r"GoAway\(.*?, Library\)"),  # said by this side: the other one's is no HTTP/2
        lambda _, settings: (
            "does not speak gRPC at this address. Set TEMPORAL_ADDRESS to the one where it does"
            + ("." if settings.tls else ", or TEMPORAL_TLS to true if it wants TLS.")
        ),
    ),
    (_UNAUTHENTICATED, lambda _, settings: _unauthenticated(settings)),
    (_DENIED, lambda _, settings: _denied(settings)),
    (
        re.compile(
            r"AlertReceived|UnexpectedEof|BrokenPipe|ConnectionReset|ConnectionAborted"
            r'|Canceled, "connection|GoAway'  # it closed before the request was sent, or after
        ),
        lambda _, settings: _hung_up(settings),
    ),
)
