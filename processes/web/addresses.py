"""The address that a request comes from: the peer's, or the one that a trusted proxy reports."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

from starlette.types import Scope

from processes.web.limits import Network

NOBODY: Final = "-"  # a peer without an address, such as on a Unix socket
IPV6_PREFIX: Final = 64  # bits; one caller usually has a network of this size to itself


class Addresses:
    """Finds callers' addresses, also behind trusted proxies."""

    def __init__(self, trusted: Sequence[Network] = ()) -> None:
        """`trusted` is the networks whose `X-Forwarded-For` is trusted."""
        self._trusted = trusted

    def of_peer(self, host: str | None) -> str | None:
        """Returns the address to count a connection under, or None for a trusted proxy's."""
        found = _parsed(host or "")
        if found is None:
            return NOBODY
        return None if self._is_trusted(found) else _counted(found)

    def of_call(self, scope: Scope) -> str:
        """Returns the address to count a request under.

        It is the peer's or, if that is a trusted proxy, the rightmost one in `X-Forwarded-For` that
        is not. Anything further left was written by the caller and is ignored.
        """
        client = scope.get("client")
        here = _parsed(client[0]) if client else None
        if here is None:
            return NOBODY
        hops = _forwarded(scope["headers"])
        while self._is_trusted(here):
            before = _parsed(hops.pop()) if hops else None
            if before is None:
                break  # the last address that is known
            here = before
        return _counted(here)

    def _is_trusted(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._trusted)


def _forwarded(headers: Iterable[tuple[bytes, bytes]]) -> list[str]:
    """Returns the hops, the nearest last; repeated headers make one list."""
    values = [value.decode("latin-1") for name, value in headers if name == b"x-forwarded-for"]
    return [hop.strip() for hop in ",".join(values).split(",")] if values else []


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    if text.startswith("["):  # with a port, as in "[2001:db8::1]:443"
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def _counted(address: IPv4Address | IPv6Address) -> str:
    if address.version == 4:
        return str(address)
    return str(ip_network((int(address), IPV6_PREFIX), strict=False))
