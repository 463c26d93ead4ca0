"""Normal forms of mail addresses and host names, so that two spellings of one compare equal.

Domains follow IDNA 2008 with UTS 46, non-transitional, as in browsers and registries. The standard
library's codec is IDNA 2003, which turns `straße.example` into `strasse.example`, another domain.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Final

import idna

DOMAIN_MAX: Final = 253  # ASCII characters; RFC 1035, 2.3.4, without the length octets

# Invisible characters without width: zero-width spaces, marks of direction and byte order, tags.
_UNSEEN: Final = re.compile(
    "[\\u00ad\\u061c\\u180e\\u200b\\u200e\\u200f\\u202a-\\u202e\\u2060-\\u206f\\ufeff"
    "\\U000e0001\\U000e0020-\\U000e007f]"
)
# Joiners, which some scripts need inside a word. At the start or end they are invisible.
_JOINERS: Final = "\u200c\u200d"
# Also invisible, but not mere formatting: an address with one of them is rejected.
_HIDDEN: Final = re.compile(
    "[\\u034f\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180d\\u180f\\u2800\\u3164\\ufe00-\\ufe0f\\uffa0"
    "\\U000e0100-\\U000e01ef]"
)
# What is left out at an address's ends. `strip` is linear; a pattern that ends in `+\\Z` is not.
_BLANKS: Final = "".join(filter(str.isspace, map(chr, range(0x3001))))
_FORMATS: Final = "\u00ad\u061c\u180e\u200b\u200c\u200e\u200f\ufeff" + "".join(
    map(chr, (*range(0x202A, 0x202F), *range(0x2060, 0x2070)))
)
_AT_START: Final = _BLANKS + _FORMATS + _JOINERS
_AT_END: Final = _BLANKS + _FORMATS  # a joiner after a letter belongs to it


_is_domain: Final = re.compile(r"(?:[^.]{1,63}\.)*[^.]{1,63}\.?").fullmatch


class DomainInvalid(ValueError):
    """The domain is not valid."""


class AddressInvalid(ValueError):
    """An address contains a forbidden character, which the message names ("it has …")."""


def trimmed(text: str) -> str:
    """Returns `text` without invisible characters at its start and end."""
    return text.strip() if text.isascii() else text.lstrip(_AT_START).rstrip(_AT_END)


def without_unseen(text: str) -> str:
    """Returns `text` without surrounding spaces and zero-width characters, except inner joiners."""
    if text.isascii():
        return text.strip()
    return _UNSEEN.sub("", text).strip().strip(_JOINERS).strip()


def ascii_domain(domain: str) -> str:
    """Returns a domain as name servers know it: lower case, non-ASCII labels as `xn--…`.

    Raises `DomainInvalid` if it is not valid under IDNA 2008. ASCII is accepted as it is: only name
    servers can tell whether such a domain exists.
    """
    if domain.isascii() and "xn--" not in domain.lower():
        if len(domain) > DOMAIN_MAX or not _is_domain(domain):
            raise DomainInvalid("its domain is not valid")
        return domain.lower()
    return _ascii_domain(domain[: 4 * DOMAIN_MAX])


def normal_domain(domain: str) -> str:
    """Returns a domain as people read it: `XN--STRAE-OQA.example` becomes `straße.example`.

    Raises `DomainInvalid` like `ascii_domain`.
    """
    if domain.isascii() and "xn--" not in domain.lower():
        return ascii_domain(domain)
    return _normal_domain(domain[: 4 * DOMAIN_MAX])


def normal_address(address: str) -> str:
    """Returns the normal form of an address, which identifies a contact.

    It is lower case and NFC, without invisible characters, with its domain from `normal_domain`.
    Text that is not an address does not become one.

    Raises:
        AddressInvalid: the address has an invisible character that cannot be left out.
        DomainInvalid: its domain is not valid.
    """
    visible = unicodedata.normalize("NFC", without_unseen(address).lower())
    name, at, domain = visible.rpartition("@")
    for part, unsafe in ((name, _is_unsafe), (domain, _HIDDEN.search)):
        if not part.isascii() and (found := next(filter(unsafe, part), None)):
            raise AddressInvalid(f"it has a {named(found)} in it")
    try:
        return f"{name}{at}{normal_domain(domain)}" if at else visible
    except DomainInvalid:
        if joiner := next(filter(_JOINERS.__contains__, domain), None):
            raise AddressInvalid(f"it has a {named(joiner)} in it") from None
        raise


def other_spellings(address: str) -> list[str]:
    """Returns the spellings in which earlier releases may have stored a normal address."""
    if address.isascii():
        return []
    name, _, domain = address.rpartition("@")
    try:
        domains = [domain, ascii_domain(domain)]
    except DomainInvalid:
        domains = [domain]
    spelled = [f"{name}@{each}" for each in domains]
    spelled += [unicodedata.normalize("NFD", each) for each in spelled]
    return [each for each in dict.fromkeys(spelled) if each != address]


def named(character: str) -> str:
    """Returns the name and number of an invisible character: `ZERO WIDTH SPACE (U+200B)`."""
    return f"{unicodedata.name(character, 'character')} (U+{ord(character):04X})"


def _is_unsafe(character: str) -> bool:
    hidden = _HIDDEN.match(character) is not None
    return hidden or unicodedata.category(character) in ("Cf", "Cc", "Zs", "Zl", "Zp")


@lru_cache(maxsize=4096)
def _ascii_domain(domain: str) -> str:
    try:
        encoded = idna.encode(domain, uts46=True, std3_rules=True, transitional=False)
    except (idna.IDNAError, UnicodeError):
        # For example a domain with an emoji, which browsers open: in ASCII, name servers know it.
        if domain.isascii() and len(domain) <= DOMAIN_MAX and _is_domain(domain):
            return domain.lower()
        raise DomainInvalid("its domain is not valid under IDNA 2008") from None
    return encoded.decode("ascii").lower()


@lru_cache(maxsize=4096)
def _normal_domain(domain: str) -> str:
    encoded = _ascii_domain(domain)
    try:
        return idna.decode(encoded)
    except (idna.IDNAError, UnicodeError):
        return encoded
