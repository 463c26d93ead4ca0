"""A file's encoding: from its bytes, from its sender, or unknown."""

from __future__ import annotations

import codecs
import random
from encodings.aliases import aliases

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saas.services.decoding import decoder_of
from saas.services.encodings import (
    Because,
    EncodingUnknown,
    Reading,
    Sniffer,
    named_encoding,
    senselessness,
)

PEOPLE = {
    "windows-1252": "Jürgen Müller|Björn Größe|Käthe Schäfer|Jörg Weiß|Ägidius Öhler|Günther Groß",
    "windows-1250": "Łukasz Żółć|Małgorzata Dąbrowska|Paweł Zieliński|Rafał Gąska|Zażółć Gęślą",
    "windows-1251": "Иван Петров|Наталья Щербакова|Сергей Иванов|Ольга Кузнецова|ООО Ромашка",
    "windows-1253": "Γιώργος Παπαδόπουλος|Ελένη Νικολάου|Αθήνα|Κώστας Βασιλείου|Νίκη|Μαρία Οικου",
    "windows-1254": "Şükrü Öztürk|İbrahim Yıldız|Gülşah Çağlar|Oğuz Şahin|Ayşe Yılmaz|Doğan Güneş",
    "iso-8859-2": "Stanisław Wójcik|Agnieszka Dąbrowska|Jędrzej Sęk|Świętosław Gąska|Zażółć Gęślą",
    "koi8-r": "Иван Петров|Наталья Щербакова|Сергей Иванов|Ольга Кузнецова|ООО Ромашка|Москва",
    "mac-roman": "François Lefèvre|Hélène Bénoît|Amélie Côté|Loïc Péron|Chloé Lécuyer|Eugène Crêpe",
    "cp850": "José Muñoz|Íñigo Núñez|María Peña|Andrés López|Sofía Martínez|Compañía Española",
    "cp932": "山田太郎|鈴木一郎|佐藤花子|株式会社サンプル|田中さくら|東京都|大阪府|渡辺|高橋|林|森",
    "gb18030": "张伟|王芳|李娜|北京科技有限公司|刘洋|陈静|上海|广州|深圳|成都",
    "cp949": "김철수|이영희|박지성|삼성전자|서울특별시|부산광역시|최민수|정우성|강남구|대한민국",
}


def file_of(names: list[str]) -> str:
    rows = "".join(f"p{number}@acme.test,{name}\r\n" for number, name in enumerate(names))
    return f"email,name\r\n{rows}"


def sniffed(content: bytes, *, named: str | None = None, cut: int = 7) -> Reading:
    sniffer = Sniffer()
    for start in range(0, len(content), cut):
        sniffer.feed(content[start : start + cut])
    sniffer.feed(b"", final=True)
    return sniffer.reading(named)


@pytest.mark.parametrize(
    ("content", "encoding", "mark"),
    [
        (b"", "utf-8", 0),
        (b"email", "utf-8", 0),
        ("ä€𐍈".encode(), "utf-8", 0),
        (b"\xef\xbb\xbfemail", "utf-8", 3),
        (b"\xef\xbb\xbf\xef\xbb\xbfemail", "utf-8", 6),
        ("ï»¿email".encode(), "utf-8", 6),
        (b"\xef\xbb\xbf" + "ï»¿email".encode(), "utf-8", 9),
        (b"\xef\xbb\xbf\xe4", "utf-8", 3),
        (b"\xff\xfee\0", "utf-16-le", 2),
        (b"\xfe\xff\0e", "utf-16-be", 2),
        (b"\xff\xfe\xff\xfee\0", "utf-16-le", 4),
        (b"e\0m\0", "utf-16-le", 0),
        (b"\0e\0m", "utf-16-be", 0),
        ("почта;имя\r\nа@б.рф;Иван\r\n".encode("utf-16-le"), "utf-16-le", 0),
        (b"\xff\xfe\0\0e\0\0\0", "utf-32-le", 4),
        (b"\0\0\xfe\xff\0\0\0e", "utf-32-be", 4),
        ("email,name\n".encode("utf-32-le"), "utf-32-le", 0),
        ("email,名前\r\na@b.test,山田\r\n".encode("iso-2022-jp"), "iso2022-jp", 0),
        (b"email\n\x1b[2J@b.test\n", "utf-8", 0),
        (b"PK\x03\x04\xff\xfe\x80\x81", "utf-8", 0),
    ],
)
@pytest.mark.parametrize("cut", [1, 5, 1_000])
def test_what_the_bytes_say_is_taken(content: bytes, encoding: str, mark: int, cut: int) -> None:
    found = sniffed(content, cut=cut)
    assert (found.encoding, found.mark, found.candidates) == (encoding, mark, ())


@pytest.mark.parametrize("bad", [b"Jos\xe9", b"\xff\xfe", b"\x80", b"Zo\xeb \xd6rn"])
@pytest.mark.parametrize("good", ["Zoë", "José Müller", "山田", "Иван", "O\u2019Neill"])
def test_bad_bytes_in_a_file_of_utf8_leave_it_utf8(good: str, bad: bytes) -> None:
    content = file_of([good] * 5).encode() + b"x@acme.test," + bad + b"\r\n"
    assert sniffed(content).encoding == "utf-8"
    assert sniffed(content).because is Because.BYTES


@pytest.mark.parametrize("lost", [1, 2])
def test_a_file_that_is_cut_within_its_last_character_is_what_it_was(lost: int) -> None:
    whole = file_of(["Zoë", "山田"]).encode().rstrip()
    assert sniffed(whole[:-lost]) == Reading("utf-8", 0, Because.BYTES)


def test_where_only_the_last_byte_is_not_ascii_both_are_asked_about() -> None:
    found = sniffed(file_of(["Ann", "José"]).encode().rstrip()[:-1])
    assert found.because is Because.UNSURE
    assert found.candidates[0].encoding == "utf-8"


@pytest.mark.parametrize("encoding", PEOPLE)
def test_names_enough_say_in_which_encoding_they_are(encoding: str) -> None:
    text = file_of(PEOPLE[encoding].split("|") * 3)
    content = text.encode(encoding)
    found = sniffed(content)
    assert found.because is Because.DETECTED
    assert content.decode(found.encoding) == text


NAMES = {
    "windows-1252": ["Zoë Müller", "Loïc Péron", "Muñoz", "Søren Ærø", "Ðórður", "João Simões"],
    "windows-1250": ["Łukasz", "Jiří Dvořák", "Győző", "Šarić", "Ţiriac", "Němcová"],
    "windows-1257": ["Gražina Ąžuolė", "Bērziņš", "Ļeņina"],
    "windows-1254": ["Oğuz Şahin", "İbrahim Yıldız"],
    "windows-1251": ["Київ", "Иван", "Георги"],
    "mac-roman": ["Loïc Péron", "Zoë", "Señor Muñoz"],
    "cp850": ["Eugène Crêpe", "Málaga", "Gâteau"],
    "euc-jp": ["山田", "鈴木"],
    "gb18030": ["张伟", "王芳"],
}


@settings(deadline=None)  # the first one loads the language models
@given(
    encoding=st.sampled_from(sorted(NAMES)),
    seed=st.integers(0, 1_000),
    number=st.integers(1, 4),
)
def test_what_is_not_asked_about_is_right_and_else_the_right_one_is_among_the_candidates(
    encoding: str, seed: int, number: int
) -> None:
    names = random.Random(seed).choices(NAMES[encoding], k=number)
    text = file_of(names)
    content = text.encode(encoding)
    found = sniffed(content)
    readings = [each.encoding for each in found.candidates] or [found.encoding]
    assert text in [content.decode(each, "replace") for each in readings]


def test_candidates_show_lines_that_read_differently() -> None:
    content = file_of(["Müller", "Zoë", "Muñoz"]).encode("windows-1252")
    found = sniffed(content)
    assert found.because is Because.UNSURE
    samples = {each.encoding: each.sample for each in found.candidates}
    assert "Müller" not in samples["windows-1252"][0]
    assert len(set(samples.values())) == len(samples) >= 2
    assert all(line.isprintable() for lines in samples.values() for line in lines)


def test_a_sample_shows_nothing_that_a_terminal_obeys() -> None:
    content = file_of(["Muñoz\x1b[2J", "Zoë\x07"]).encode("windows-1252")
    lines = [line for each in sniffed(content).candidates for line in each.sample]
    assert any("\\x1b[2J" in line for line in lines)
    assert all(line.isprintable() for line in lines)


def test_what_the_sender_names_is_used_but_a_mark_is_not_text() -> None:
    content = file_of(["Zoë"]).encode()
    assert sniffed(content, named="windows-1250") == Reading("windows-1250", 0, Because.NAMED)
    marked = sniffed(b"\xef\xbb\xbf" + content, named="windows-1250")
    assert marked == Reading("utf-8", 3, Because.MARK)
    wide = "email\n".encode("utf-16-be")
    assert sniffed(wide, named="utf-16").encoding == "utf-16-be"
    assert sniffed(b"\xe4\xf6", named="utf-16").encoding == "utf-16-le"


def test_utf8_that_makes_no_sense_is_asked_about() -> None:
    found = sniffed(file_of(["SPÓŁKA", "SPÓŁKA Z O.O."]).encode("windows-1250"))
    assert found.because is Because.UNSURE
    assert {"utf-8", "windows-1250"} <= {each.encoding for each in found.candidates}


@settings(deadline=None)
@given(content=st.binary(max_size=300), cut=st.integers(1, 50))
def test_any_bytes_are_read_as_something_or_asked_about(content: bytes, cut: int) -> None:
    found = sniffed(content, cut=cut)
    assert (found.because is Because.UNSURE) == bool(found.candidates)
    decoder = decoder_of(found.encoding)
    decoder.decode(content[found.mark :], True)


def test_a_file_that_never_ends_is_not_held() -> None:
    sniffer = Sniffer()
    for _ in range(50):
        sniffer.feed("ä".encode("windows-1252") * 100_000)
    held = vars(sniffer)
    assert len(held["_rest"]) <= 65_536
    assert sum(map(len, held["_bad"].cells)) < 1_000_000


@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        ("UTF8", "utf-8"),
        (" utf-8-sig ", "utf-8"),
        ("cp1250", "windows-1250"),
        ("Windows-1250", "windows-1250"),
        ("x-cp1251", "windows-1251"),
        ("latin1", "windows-1252"),
        ("ISO-8859-1", "windows-1252"),
        ("ISO-8859-2", "iso-8859-2"),
        ("macintosh", "mac-roman"),
        ("Shift_JIS", "cp932"),
        ("windows-31j", "cp932"),
        ("GB2312", "gb18030"),
        ("windows-874", "cp874"),
        ("us-ascii", "ascii"),
        ("UTF-16", "utf-16"),
        ("utf-16be", "utf-16-be"),
    ],
)
def test_an_encoding_is_known_by_its_names(name: str, encoding: str) -> None:
    assert named_encoding(name) == encoding
    assert codecs.lookup(encoding)


@pytest.mark.parametrize(
    "name",
    [
        *("zip", "hex", "rot13", "idna", "punycode", "unicode_escape", "raw_unicode_escape"),
        *("utf-7", "base64", "bz2", "uu", "quopri", "undefined", "mbcs", "oem", "cp037", "hz"),
        *("", "é", "klingon", "utf-8\0", "x" * 10_000, "\x1b[2J", "../../etc", "None"),
    ],
)
def test_what_is_no_encoding_of_a_file_is_refused_in_a_sentence(name: str) -> None:
    with pytest.raises(EncodingUnknown) as refused:
        named_encoding(name)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 200


def test_what_is_not_printable_is_spelled_out_once() -> None:
    with pytest.raises(EncodingUnknown, match=r'^there is no text encoding "a\\x1bb"'):
        named_encoding("a\x1bb")


def test_the_nearest_names_are_said() -> None:
    with pytest.raises(EncodingUnknown, match="Did you mean windows-1252 or"):
        named_encoding("windows-1522")


def is_known(name: str) -> bool:
    try:
        named_encoding(name)
    except EncodingUnknown:
        return False
    return True


@pytest.mark.parametrize("encoding", sorted({*map(named_encoding, filter(is_known, aliases))}))
def test_in_every_encoding_a_row_is_a_row_and_its_bytes_are_counted(encoding: str) -> None:
    if encoding in ("utf-16", "utf-32"):  # the result names the byte order
        encoding = f"{encoding}-le"
    text = 'email,name\r\na@b.test,"x;|\t"\nb@b.test,\r'
    content = text.encode(encoding)
    decoder = decoder_of(encoding)
    assert decoder.decode(content, True) == text
    lines = text.splitlines(keepends=True)
    assert [decoder.size([line]) for line in lines] == [
        len(each.encode(encoding)) for each in lines
    ]
    odd = bytes(range(128, 256)) + b"\n"
    if "16" not in encoding and "32" not in encoding:
        assert decoder_of(encoding).decode(odd + b"x", True).endswith("\nx")


@pytest.mark.parametrize("text", ["£ukasz", "ZoÃ«", "Joи", "¯ó³æ", "Jos┌", "a\x80b", "caf\u0e49"])
def test_what_is_read_wrongly_makes_no_sense(text: str) -> None:
    assert senselessness(text) > 0.05


@pytest.mark.parametrize(
    "text",
    ["Łukasz", "Zoë “Ærø”", "McDonald’s", "Jürgen – München", "£5", "山田さん", "Σοφία", "ÉCOLE"],
)
def test_what_is_read_rightly_makes_sense(text: str) -> None:
    assert senselessness(text) == 0
