"""Whose address a call is from: the peer's, or what a proxy of ours says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

from starlette.types import Scope

from processes.web.limits import Network

NOBODY: Final = "-"  # of a peer without an address, as behind a Unix socket
IPV6_PREFIX: Final = 64  # bits: a network of that size is one caller's, who may use all of it


class Addresses:
    """Finds callers' addresses, behind the proxies that are trusted."""

    def __init__(self, trusted: Sequence[Network] = ()) -> None:
        """`trusted` are the networks whose `X-Forwarded-For` is believed."""
        self._trusted = trusted

    def of_peer(self, host: str | None) -> str | None:
        """Under which address a connection counts; None: it is a trusted proxy's, many callers'."""
        found = _parsed(host or "")
        if found is None:
            return NOBODY
        return None if self._is_trusted(found) else _counted(found)

    def of_call(self, scope: Scope) -> str:
        """Under which address a call counts.

        It is the peer's, or, where that is a trusted proxy, the rightmost of `X-Forwarded-For` that
        is not. What stands further left was written by whoever called, and is not looked at.
        """
        client = scope.get("client")
        here = _parsed(client[0]) if client else None
        if here is None:
            return NOBODY
        hops = _forwarded(scope["headers"])
        while self._is_trusted(here):
            before = _parsed(hops.pop()) if hops else None
            if before is None:
                break  # who called the last proxy that can be told
            here = before
        return _counted(here)

    def _is_trusted(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._trusted)


def _forwarded(headers: Iterable[tuple[bytes, bytes]]) -> list[str]:
    """The hops, the nearest last; several headers of the name are one list."""
    said = [value.decode("latin-1") for name, value in headers if name == b"x-forwarded-for"]
    return [hop.strip() for hop in ",".join(said).split(",")] if said else []


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
