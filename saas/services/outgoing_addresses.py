"""Decides which IP addresses a tenant's URL may lead to: public ones only."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

# Networks that the standard library calls public but that lead elsewhere.
_REFUSED_V4: Final = (
    IPv4Network("168.63.129.16/32"),  # Azure's platform
    IPv4Network("192.0.0.0/24"),  # protocol assignments, RFC 6890
    IPv4Network("192.88.99.0/24"),  # relays of 6to4, RFC 7526
)
_REFUSED_V6: Final = (
    IPv6Network("2001::/23"),  # protocol assignments, RFC 6890, with Teredo, which embeds IPv4
    IPv6Network("2002::/16"),  # 6to4, which embeds any IPv4 address
    IPv6Network("3fff::/20"),  # documentation, RFC 9637
)
_UNICAST_V6: Final = IPv6Network("2000::/3")  # all that has been allocated so far
_TRANSLATED: Final = IPv6Network("64:ff9b::/96")  # IPv4 by NAT64, RFC 6052


def is_public(address: str) -> bool:
    """Returns whether `address`, as a resolver returns it, is on the public internet.

    It returns False for loopback, private, shared (CGNAT), link-local, unique local, multicast,
    reserved and documentation addresses and for clouds' metadata services, also as IPv4 in IPv6.
    """
    try:
        return _is_public_v6(IPv6Address(address)) if ":" in address else _is_public_v4(address)
    except ValueError:
        return False


def _is_public_v4(address: str) -> bool:
    parsed = IPv4Address(address)
    return (
        parsed.is_global
        and not parsed.is_multicast
        and not parsed.is_reserved
        and not any(parsed in network for network in _REFUSED_V4)
    )


def _is_public_v6(parsed: IPv6Address) -> bool:
    if parsed.ipv4_mapped is not None or parsed in _TRANSLATED:
        return _is_public_v4(str(IPv4Address(int(parsed) & 0xFFFFFFFF)))
    return (
        parsed in _UNICAST_V6
        and parsed.is_global
        and parsed.scope_id is None
        and not any(parsed in network for network in _REFUSED_V6)
    )
