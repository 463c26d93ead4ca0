"""The address that a request counts for."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from processes.web.addresses import NOBODY, Addresses

OURS = (ip_network("10.0.0.0/8"), ip_network("2001:db8:aaaa::/48"))


def of(peer: str | None, *forwarded: str) -> str:
    headers = [(b"x-forwarded-for", value.encode("latin-1")) for value in forwarded]
    client = None if peer is None else (peer, 4711)
    return Addresses(OURS).of_call({"type": "http", "client": client, "headers": headers})


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("192.0.2.1", (), "192.0.2.1"),
        ("192.0.2.1", ("198.51.100.7",), "192.0.2.1"),
        ("10.0.0.1", ("198.51.100.7",), "198.51.100.7"),
        ("10.0.0.1", ("1.2.3.4, 198.51.100.7",), "198.51.100.7"),
        ("10.0.0.1", ("1.2.3.4", "198.51.100.7, 10.9.9.9"), "198.51.100.7"),
        ("10.0.0.1", ("198.51.100.7:1234",), "198.51.100.7"),
        ("10.0.0.1", ("[2001:db8::1]:443",), "2001:db8::/64"),
        ("10.0.0.1", ("::ffff:198.51.100.7",), "198.51.100.7"),
        ("::ffff:10.0.0.1", ("198.51.100.7",), "198.51.100.7"),
        ("2001:db8:aaaa::1", ("198.51.100.7",), "198.51.100.7"),
        ("10.0.0.1", (), "10.0.0.1"),
        ("10.0.0.1", ("",), "10.0.0.1"),
        ("10.0.0.1", ("10.0.0.2",), "10.0.0.2"),
        ("10.0.0.1", ("198.51.100.7, nonsense",), "10.0.0.1"),
        ("10.0.0.1", ("198.51.100.7, nonsense, 10.0.0.2",), "10.0.0.2"),
        ("2001:db8:1:2:3:4:5:6", (), "2001:db8:1:2::/64"),
        ("2001:db8:1:2::ff", (), "2001:db8:1:2::/64"),
        ("fe80::1%eth0", (), "fe80::/64"),
        (None, (), NOBODY),
    ],
)
def test_a_call_counts_for_who_made_it(
    peer: str | None, forwarded: tuple[str, ...], address: str
) -> None:
    assert of(peer, *forwarded) == address


addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)
said = st.lists(
    st.one_of(
        addresses, st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=9)
    ),
    max_size=4,
).map(", ".join)


@given(said)
@example("198.51.100.7")
def test_what_an_untrusted_peer_says_changes_nothing(forwarded: str) -> None:
    assert of("192.0.2.1", forwarded) == "192.0.2.1"


@given(said, st.ip_addresses(v=4, network="198.51.100.0/24").map(str))
def test_what_a_caller_writes_before_the_proxys_own_word_changes_nothing(
    forged: str, caller: str
) -> None:
    assert of("10.0.0.1", forged, caller) == caller


@given(addresses)
def test_a_trusted_proxys_connections_count_for_nobody(peer: str) -> None:
    trusting = Addresses((ip_network("0.0.0.0/0"), ip_network("::/0")))
    assert trusting.of_peer(peer) is None
    assert Addresses().of_peer(peer) is not None
