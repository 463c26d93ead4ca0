"""One spelling per address and per domain, whatever the input."""

from __future__ import annotations

import unicodedata

import idna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saas.services.addresses import (
    AddressInvalid,
    DomainInvalid,
    ascii_domain,
    normal_address,
    normal_domain,
    other_spellings,
    trimmed,
)
from saas.services.mail import MailServer, deliverable


@pytest.mark.parametrize(
    ("domain", "in_ascii", "normal"),
    [
        ("straße.example", "xn--strae-oqa.example", "straße.example"),
        ("Straße.EXAMPLE", "xn--strae-oqa.example", "straße.example"),
        ("strasse.example", "strasse.example", "strasse.example"),
        ("XN--STRAE-OQA.example", "xn--strae-oqa.example", "straße.example"),
        ("bu\u0308cher.example", "xn--bcher-kva.example", "bücher.example"),
        ("BÜCHER.example", "xn--bcher-kva.example", "bücher.example"),
        ("例子。公司", "xn--fsqu00a.xn--55qx5d", "例子.公司"),
        ("ｅｘample.com", "example.com", "example.com"),
        ("ς.gr", "xn--3xa.gr", "ς.gr"),
        ("نامه\u200cای.com", "xn--mgba3gch31f060k.com", "نامه\u200cای.com"),
        ("a_b.example", "a_b.example", "a_b.example"),
        ("xn--ls8h.la", "xn--ls8h.la", "xn--ls8h.la"),
    ],
)
def test_a_domain_is_idna_2008(domain: str, in_ascii: str, normal: str) -> None:
    assert ascii_domain(domain) == in_ascii
    assert normal_domain(domain) == normal
    assert ascii_domain(normal) == in_ascii


@pytest.mark.parametrize("domain", ["💩.la", "ä" * 70 + ".de", "na\u200dme.test", "a_ä.x", "ä..de"])
def test_what_is_no_domain_is_refused(domain: str) -> None:
    for convert in (ascii_domain, normal_domain):
        with pytest.raises(DomainInvalid):
            convert(domain)


def test_mail_goes_to_the_domain_that_was_meant() -> None:
    for spelled in ("info@straße.example", "info@Straße.example", "info@xn--strae-oqa.example"):
        assert deliverable(spelled).addr_spec == "info@xn--strae-oqa.example"
    assert deliverable("jose\u0301@b.example").username == "josé"
    assert MailServer("smtp://straße.example", "A <a@straße.example>")._server.host == (
        "xn--strae-oqa.example"
    )


LABELS = st.text(st.characters(categories=["Ll", "Lu", "Lo", "Nd"]), min_size=1, max_size=8)


@given(name=LABELS, label=LABELS)
def test_all_spellings_of_an_address_have_one_normal_form(name: str, label: str) -> None:
    try:
        normal = normal_address(f"{name}@{label}.example")
    except (DomainInvalid, AddressInvalid):
        return
    assert normal_address(normal) == normal
    for other in other_spellings(normal):
        assert normal_address(other) == normal
    assert unicodedata.is_normalized("NFC", normal.rpartition("@")[0])
    assert idna.encode(normal.rpartition("@")[2], uts46=True)


@pytest.mark.parametrize("character", "\u00ad\u200b\u200e\u202a\u202c\u2060\ufeff\U000e0020")
@pytest.mark.parametrize("form", ["{0}ann@acme.test", "an{0}n@acme.test", "ann@ac{0}me.test{0}"])
def test_what_has_no_width_is_left_out(character: str, form: str) -> None:
    assert normal_address(form.format(character)) == "ann@acme.test"


@pytest.mark.parametrize("blank", "\u00a0\u2003\u3000\u202f\t ")
def test_blanks_around_an_address_are_left_out(blank: str) -> None:
    assert normal_address(f"{blank}\u200bann@acme.test\u200b{blank}") == "ann@acme.test"


@pytest.mark.parametrize(
    ("address", "named"),
    [
        ("a\u200db@acme.test", "ZERO WIDTH JOINER (U+200D)"),
        ("a@ac\u200dme.test", "ZERO WIDTH JOINER (U+200D)"),
        ("a\u00a0b@acme.test", "NO-BREAK SPACE (U+00A0)"),
        ("a\ufe0fb@acme.test", "VARIATION SELECTOR-16 (U+FE0F)"),
        ("a\u3164@acme.test", "HANGUL FILLER (U+3164)"),
        ("a\u0600b@acme.test", "ARABIC NUMBER SIGN (U+0600)"),
    ],
)
def test_what_cannot_be_left_out_is_named(address: str, named: str) -> None:
    with pytest.raises(AddressInvalid) as refused:
        normal_address(address)
    assert named in str(refused.value)


def test_the_ends_of_a_text_have_nothing_that_is_not_seen() -> None:
    assert trimmed("\u200b\u00a0 Ann \ufeff") == "Ann"
    assert trimmed("\u202a+49 30\u202c") == "+49 30"
    england = "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"
    assert trimmed(england) == england
    assert trimmed("क्\u200d") == "क्\u200d"
