"""Normal forms of mail addresses and host names, in which two spellings of one are the same.

Domains by IDNA 2008 with UTS 46, non-transitional, as browsers and registries have it: the standard
library's codec is IDNA 2003, for which `straße.example` is `strasse.example`, another domain.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Final

import idna

DOMAIN_MAX: Final = 253  # characters, in ASCII; RFC 1035, 2.3.4, without what is around them

# What has no width, and which nobody sees: blanks, marks of direction and of order, tags.
_UNSEEN: Final = re.compile(
    "[\\u00ad\\u061c\\u180e\\u200b\\u200e\\u200f\\u202a-\\u202e\\u2060-\\u206f\\ufeff"
    "\\U000e0001\\U000e0020-\\U000e007f]"
)
# Joiners, which some scripts are written with. Nobody sees them at the beginning or the end.
_JOINERS: Final = "\u200c\u200d"
# They are not seen either, but are more than format: an address has none of them.
_HIDDEN: Final = re.compile(
    "[\\u034f\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180d\\u180f\\u2800\\u3164\\ufe00-\\ufe0f\\uffa0"
    "\\U000e0100-\\U000e01ef]"
)
_EDGES: Final = re.compile(
    "\\A[\\s\\u00ad\\u061c\\u180e\\u200b-\\u200f\\u202a-\\u202e\\u2060-\\u206f\\ufeff]+"
    "|[\\s\\u00ad\\u061c\\u180e\\u200b\\u200c\\u200e\\u200f\\u202a-\\u202e\\u2060-\\u206f\\ufeff]+\\Z"
)


_is_domain: Final = re.compile(r"(?:[^.]{1,63}\.)*[^.]{1,63}\.?").fullmatch


class DomainInvalid(ValueError):
    """No domain is called that."""


class AddressInvalid(ValueError):
    """An address has a character that it cannot have. The message names it, as in "it has …"."""


def trimmed(text: str) -> str:
    """`text` without what is not seen at its beginning and its end."""
    return text.strip() if text.isascii() else _EDGES.sub("", text)


def without_unseen(text: str) -> str:
    """`text` without blanks around it and without what has no width, but for joiners inside it."""
    if text.isascii():
        return text.strip()
    return _UNSEEN.sub("", text).strip().strip(_JOINERS).strip()


def ascii_domain(domain: str) -> str:
    """A domain as name servers have it: in lower case, each label that is not ASCII as `xn--…`.

    Raises `DomainInvalid` where it is none by IDNA 2008. What is in ASCII is taken as it is:
    whether there is such a domain is for name servers to say.
    """
    if domain.isascii() and "xn--" not in domain.lower():
        if len(domain) > DOMAIN_MAX or not _is_domain(domain):
            raise DomainInvalid("its domain is none")
        return domain.lower()
    return _ascii_domain(domain[: 4 * DOMAIN_MAX])


def normal_domain(domain: str) -> str:
    """A domain as people read it, in one spelling: `XN--STRAE-OQA.example` is `straße.example`.

    Raises `DomainInvalid` as `ascii_domain`.
    """
    if domain.isascii() and "xn--" not in domain.lower():
        return ascii_domain(domain)
    return _normal_domain(domain[: 4 * DOMAIN_MAX])


def normal_address(address: str) -> str:
    """An address in the one spelling by which it is told from others: a contact's key.

    In lower case and NFC, without what is not seen, its domain as `normal_domain` has it. What is
    no address stays none.

    Raises:
        AddressInvalid: it has a character that may not be seen, and cannot be left out.
        DomainInvalid: its domain is none.
    """
    plain = unicodedata.normalize("NFC", without_unseen(address).lower())
    name, at, domain = plain.rpartition("@")
    for part, unsafe in ((name, _is_unsafe), (domain, _HIDDEN.search)):
        if not part.isascii() and (found := next(filter(unsafe, part), None)):
            raise AddressInvalid(f"it has a {named(found)} in it")
    try:
        return f"{name}{at}{normal_domain(domain)}" if at else plain
    except DomainInvalid:
        if joiner := next(filter(_JOINERS.__contains__, domain), None):
            raise AddressInvalid(f"it has a {named(joiner)} in it") from None
        raise


def other_spellings(address: str) -> list[str]:
    """How a normal address may have been kept before there was a normal form."""
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
    """A character that is not seen, by its name and number: `ZERO WIDTH SPACE (U+200B)`."""
    return f"{unicodedata.name(character, 'character')} (U+{ord(character):04X})"


def _is_unsafe(character: str) -> bool:
    hidden = _HIDDEN.match(character) is not None
    return hidden or unicodedata.category(character) in ("Cf", "Cc", "Zs", "Zl", "Zp")


@lru_cache(maxsize=4096)
def _ascii_domain(domain: str) -> str:
    try:
        encoded = idna.encode(domain, uts46=True, std3_rules=True, transitional=False)
    except (idna.IDNAError, UnicodeError):
        # Such as those with an emoji, which browsers open: in ASCII it is what name servers know.
        if domain.isascii() and len(domain) <= DOMAIN_MAX and _is_domain(domain):
            return domain.lower()
        raise DomainInvalid("its domain is none by IDNA 2008") from None
    return encoded.decode("ascii").lower()


@lru_cache(maxsize=4096)
def _normal_domain(domain: str) -> str:
    encoded = _ascii_domain(domain)
    try:
        return idna.decode(encoded)
    except (idna.IDNAError, UnicodeError):
        return encoded
