"""An HTTP client for tenants' URLs: TLS and public addresses only, with timeouts and size limits.

It resolves a name once, checks each address, and connects to a checked address, so that a name
cannot point elsewhere a moment later (DNS rebinding). TLS still verifies the name.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Final
from unicodedata import normalize

import httpx
from temporalio.exceptions import ApplicationError

from saas.refusals import Refused
from saas.services.addresses import ascii_domain
from saas.services.outgoing_addresses import is_public
from saas.settings import load_settings

CONNECT_TIMEOUT: Final = 10.0  # seconds, for each address
SILENCE_TIMEOUT: Final = 30.0  # seconds without a byte
EXCHANGE_TIMEOUT: Final = 60.0  # seconds for a request and its whole response
BODY_MAX_BYTES: Final = 10 * 1024 * 1024
RETRY_AFTER_MAX: Final = timedelta(hours=1)  # a longer wait is left to a later run
USER_AGENT: Final = "temporal-tenancy"
PORT_MAX: Final = 65_535
_HOST: Final = re.compile(r"[A-Za-z0-9._:-]*")  # a name in ASCII, or an address
_PORTS: Final = {"https": 443, "http": 80}
_BUSY: Final = (429, 503)

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]


class AddressRefused(Refused):
    """The URL must not be requested."""


class AnswerRefused(Refused):
    """The server's response is an error that no retry can fix.

    Its first detail is the response's status, if that is the reason.
    """


class OutsideUnavailable(ApplicationError):
    """The server does not answer, or is temporarily unavailable; a retry may succeed.

    Its first detail is the response's status, if there is one.
    """

    def __init__(
        self, message: str, *details: object, retry_after: timedelta | None = None
    ) -> None:
        """`retry_after` is how long the server asks to wait."""
        super().__init__(message, *details, type=type(self).__name__, next_retry_delay=retry_after)


@dataclass(frozen=True)
class Answer:
    """A successful response."""

    status: int
    body: bytes


class OutgoingHttp:
    """A client for tenants' URLs, which follows no redirects and keeps no cookies."""

    def __init__(
        self, client: httpx.AsyncClient, *, exchange_timeout: float, body_max_bytes: int
    ) -> None:
        """Use `outgoing_http`, which describes the arguments."""
        self._client = client
        self._exchange_timeout = exchange_timeout
        self._body_max_bytes = body_max_bytes

    async def request(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> Answer:
        """Sends a request and returns a response with a status from 200 to 299.

        Args:
            method: such as `GET`.
            url: an absolute URL; its query is kept along with `params`.
            params: added to the query.
            headers: added to the client's own; errors never contain their values.
            content: the request's body.

        Raises:
            AddressRefused: the URL is not https, contains credentials, or leads to an address that
                is not public.
            AnswerRefused: a redirect, a status from 400 to 499, or a response that is too large.
            OutsideUnavailable: no response, 408, 425, 429, or a status from 500 on; the retry delay
                is that of `Retry-After`, up to an hour. A longer one raises `AnswerRefused`.
        """
        target = _url(url)
        try:
            async with (
                asyncio.timeout(self._exchange_timeout),
                self._client.stream(
                    method,
                    target.copy_merge_params(params or {}),
                    headers=headers,
                    content=content,
                ) as response,
            ):
                _refuse_failure(response, target.host)
                body = await _body(response, target.host, self._body_max_bytes)
                return Answer(response.status_code, body)
        # The original messages may contain a header.
        except UnicodeError:
            raise AnswerRefused(
                "a header of the request is not ASCII. Check the credential."
            ) from None
        except (httpx.HTTPError, TimeoutError) as error:
            raise OutsideUnavailable(f"{target.host} {_reason(error)}.") from None


def _reason(error: Exception) -> str:
    """Returns why there is no response; the original message may contain a header."""
    if isinstance(error, httpx.ConnectError):
        return "does not take the connection"
    if isinstance(error, httpx.TimeoutException | TimeoutError):
        return "does not answer in time"
    return "broke off the answer"


def require_requestable(url: str) -> str:
    """Returns a tenant's URL if it may be requested, as far as can be told without resolving it.

    Raises `AddressRefused` as `OutgoingHttp.request` does.
    """
    target = _url(url)
    name = _name(target)
    allowed = _require_scheme(target.scheme, name, _port(target), _allowed())
    address = _literal(name)
    if not allowed and (name == "localhost" or (address and not is_public(address))):
        raise _not_public(name)
    return url


def _literal(name: str) -> str | None:
    """Returns the address that a host is in any spelling (`127.1`), or None for a name."""
    try:
        return name if ":" in name else socket.inet_ntoa(socket.inet_aton(name))
    except OSError:
        return None


def _not_public(name: str) -> AddressRefused:
    # The message omits the address, which would reveal this network's structure.
    return AddressRefused(
        f"the host {name} does not lead to a public address. Use a publicly reachable host."
    )


def same_origin(one: str, other: str) -> bool:
    """Returns whether two URLs have the same scheme, host and port; both must be requestable."""
    return origin_of(one) == origin_of(other)


def origin_of(url: str) -> str:
    """Returns the scheme, host and port of a requestable URL, as in `https://x.example:443`."""
    target = _url(url)
    return f"{target.scheme}://{_name(target)}:{_port(target)}"


@asynccontextmanager
async def outgoing_http(
    *,
    resolve: Resolver | None = None,
    exchange_timeout: float = EXCHANGE_TIMEOUT,
    body_max_bytes: int = BODY_MAX_BYTES,
) -> AsyncIterator[OutgoingHttp]:
    """Opens a client for tenants' URLs; connections stay open until the block ends.

    Args:
        resolve: finds the addresses of a host and port; default: the system's resolver.
        exchange_timeout: seconds for a request and its whole response.
        body_max_bytes: the maximum size of a response's body.
    """
    transport = _CheckedTransport(resolve or _resolve, _allowed())
    async with httpx.AsyncClient(
        transport=transport,
        follow_redirects=False,
        trust_env=False,  # no proxy, and no credentials from ~/.netrc
        timeout=httpx.Timeout(SILENCE_TIMEOUT, connect=CONNECT_TIMEOUT),
        # Without compression a small response cannot expand into a huge one.
        headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
    ) as client:
        yield OutgoingHttp(client, exchange_timeout=exchange_timeout, body_max_bytes=body_max_bytes)


class _CheckedTransport(httpx.AsyncBaseTransport):
    """Connects only to checked addresses, with separate connections for each host.

    Two hosts at one address never share a connection, as TLS has verified only one of their names.
    """

    def __init__(self, resolve: Resolver, allowed: frozenset[str]) -> None:
        self._resolve = resolve
        self._allowed = allowed
        self._hosts: dict[tuple[str, str, int], _Host] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        scheme, name = request.url.scheme, _name(request.url)
        port = _port(request.url)
        known = self._hosts.get((scheme, name, port))
        if known is None:
            known = _Host(await self._addresses(scheme, name, port))
            self._hosts[scheme, name, port] = known
        return await known.send(request)

    async def _addresses(self, scheme: str, name: str, port: int) -> Sequence[str]:
        """Returns a host's addresses; raises `AddressRefused` if it must not be requested."""
        allowed = _require_scheme(scheme, name, port, self._allowed)
        try:
            addresses = await self._resolve(name, port)
        except (OSError, UnicodeError):
            addresses = ()
        if not addresses:
            raise httpx.ConnectError(f"{name} has no address")
        if not allowed and not all(map(is_public, addresses)):
            raise _not_public(name)
        return addresses

    async def aclose(self) -> None:
        for host in self._hosts.values():
            await host.transport.aclose()


class _Host:
    """A host's connections."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self.transport = httpx.AsyncHTTPTransport(verify=_tls(), trust_env=False)
        self._addresses = list(addresses)

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Sends to the first address that accepts a connection, and from then on only to that."""
        name = _name(request.url)
        while True:
            address = self._addresses[0]
            pinned = httpx.Request(
                request.method,
                request.url.copy_with(host=address),
                headers=request.headers,  # Host among them, with the name
                stream=request.stream,
                extensions={**request.extensions, "sni_hostname": name},
            )
            try:
                return await self.transport.handle_async_request(pinned)
            except (httpx.ConnectError, httpx.ConnectTimeout):  # nothing has been sent
                if len(self._addresses) == 1:
                    raise
                del self._addresses[0]


def retry_after(value: str | None, now: datetime) -> timedelta | None:
    """Returns the wait that a `Retry-After` header asks for, counted from `now` (aware).

    The value is seconds or an HTTP date (RFC 9110, 10.2.3). Returns None if it is missing or
    malformed.
    """
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return timedelta(seconds=min(int(value[:12]), 10**9))
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):  # also for a year of a thousand digits
        return None
    if moment.utcoffset() is None:  # "-0000"
        moment = moment.replace(tzinfo=UTC)
    return max(moment - now, timedelta(0))


def _require_scheme(scheme: str, name: str, port: int, exempt: frozenset[str]) -> bool:
    """Returns whether the host is exempt; raises `AddressRefused` unless it is, or uses TLS."""
    allowed = f"{name}:{port}" in exempt
    if scheme != "https" and not (allowed and scheme == "http"):
        raise AddressRefused(f"the URL of {name} is not https://. Use an https:// URL.")
    return allowed


def _port(url: httpx.URL) -> int:
    return url.port or _PORTS.get(url.scheme, 0)


def _name(url: httpx.URL) -> str:
    """Returns a URL's host in ASCII, without brackets."""
    return url.raw_host.decode("ascii")


def _url(value: str) -> httpx.URL:
    try:
        url: httpx.URL | None = httpx.URL(normalize("NFC", value))
    except (httpx.InvalidURL, ValueError):
        url = None
    if url is None or not _HOST.fullmatch(_name(url)) or (url.port or 0) > PORT_MAX:
        raise AddressRefused("the URL is malformed. It must be https://host/path.")
    if not url.is_absolute_url or not url.host:
        raise AddressRefused("the URL has no host. It must be https://host/path.")
    if url.userinfo:
        raise AddressRefused(
            f"the URL of {url.host} contains credentials. Give them as the integration's "
            "credential."
        )
    return url


def _refuse_failure(response: httpx.Response, host: str) -> None:
    """Raises the error for a status other than 200 to 299."""
    status = response.status_code
    if 200 <= status < 300:
        return
    if status in _BUSY:
        wait = retry_after(response.headers.get("retry-after"), datetime.now(UTC))
        if wait is not None and wait > RETRY_AFTER_MAX:
            raise AnswerRefused(
                f"{host} answered {status} and asks to wait {wait}. Run the job again after that.",
                status,
            )
        raise OutsideUnavailable(f"{host} answered {status}.", status, retry_after=wait or None)
    if status >= 500 or status in (408, 425):
        raise OutsideUnavailable(f"{host} answered {status}.", status)
    if 300 <= status < 400:
        raise AnswerRefused(
            f"{host} answered {status}, a redirect. Use the URL it leads to.", status
        )
    raise AnswerRefused(f"{host} answered {status}. Check the URL and the credential.", status)


async def _body(response: httpx.Response, host: str, max_bytes: int) -> bytes:
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise AnswerRefused(f"{host} sent a compressed response, which was not requested.")
    body = bytearray()
    async for piece in response.aiter_raw():
        body += piece
        if len(body) > max_bytes:
            raise AnswerRefused(
                f"{host} sent more than {max_bytes:,} bytes. Ask for smaller pages."
            )
    return bytes(body)


async def _resolve(host: str, port: int) -> Sequence[str]:
    """Returns a host's addresses by the system resolver, which also reads 0x7f.1 and 2130706433."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _allowed() -> frozenset[str]:
    named = load_settings().outgoing_http_allow.split(",")
    return frozenset(ascii_domain(name.strip()) for name in named if name.strip())


@cache
def _tls() -> ssl.SSLContext:
    """Cached, as loading the certificate authorities takes tens of milliseconds."""
    return httpx.create_ssl_context()
