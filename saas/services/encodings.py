"""In which encoding a file of text is: what its sender names, what its bytes say, or a question.

`chardet` ranks the readings. It does not say when two of them are as good as each other, and in a
list of names they often are: "Lefèvre" in Windows-1252 is "Lefčvre" in Windows-1250, whose bytes
are the same. So a reading is taken where all others make no words, or where it fits much better
over enough words, and else the sender is asked.
"""

from __future__ import annotations

import codecs
import difflib
import encodings
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from encodings.aliases import aliases
from enum import StrEnum
from functools import lru_cache
from typing import Final, NamedTuple

import chardet

from saas.services.file_kinds import is_binary
from saas.services.shown import shown

WINDOWS: Final = "windows-1252"
UTF8: Final = "utf-8"

# As every browser reads these names (WHATWG Encoding, 4.2): the code page of Windows has what the
# standard of that name has, and more.
_BETTER_KNOWN_AS: Final = {
    "latin_1": WINDOWS,
    "iso8859_1": WINDOWS,
    "iso8859_9": "windows-1254",
    "iso8859_11": "cp874",
    "tis_620": "cp874",
    "shift_jis": "cp932",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "big5": "cp950",
    "euc_kr": "cp949",
    "utf_8_sig": UTF8,
    **{f"cp125{digit}": f"windows-125{digit}" for digit in range(9)},
}
# Not of text, or of text in which a comma or a line's end is no byte of its own (EBCDIC, UTF-7) or
# means something else further on (HZ, ISO-2022-KR).
_NO_FILE: Final = frozenset(
    {
        *("base64_codec", "bz2_codec", "hex_codec", "quopri_codec", "rot_13", "uu_codec"),
        *("zlib_codec", "mbcs", "oem", "idna", "punycode", "undefined", "unicode_escape"),
        *("raw_unicode_escape", "utf_7", "hz", "iso2022_kr", "cp037", "cp273", "cp424", "cp500"),
        *("cp875", "cp1026", "cp1140"),
    }
)
_UNALIASED: Final = ("cp720", "cp737", "cp856", "cp874", "koi8_t", "koi8_u", "utf_8_sig")
_CODECS: Final = frozenset({*aliases.values(), *_UNALIASED}) - _NO_FILE
_WIDE: Final = {
    "utf-16": ("utf-16-le", "utf-16-be"),
    "utf-32": ("utf-32-le", "utf-32-be"),
}
_SUGGESTED: Final = tuple(  # the names that people know; the others are found by their aliases
    f"{UTF8} utf-16 {WINDOWS} windows-1250 windows-1251 windows-1253 windows-1254 windows-1255 "
    "windows-1256 windows-1257 windows-1258 cp874 iso-8859-1 iso-8859-2 iso-8859-5 iso-8859-7 "
    "iso-8859-9 iso-8859-15 koi8-r koi8-u macroman cp437 cp850 cp852 cp866 shift_jis euc-jp "
    "iso-2022-jp gb18030 gbk big5 euc-kr cp949".split()
)

_MARKS: Final = (  # the longer before what it begins with
    (codecs.BOM_UTF8, UTF8),
    ("\ufeff".encode().decode("cp1252").encode(), UTF8),  # one that was read as Windows-1252 before
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

# What programs that people export contacts from have written in the last thirty years.
_CANDIDATES: Final = (
    *(WINDOWS, "windows-1250", "windows-1251", "windows-1253", "windows-1254", "windows-1255"),
    *("windows-1256", "windows-1257", "windows-1258", "cp874", "iso-8859-2", "iso-8859-5"),
    *("iso-8859-15", "koi8-r", "koi8-u", "cp932", "euc-jp", "gb18030", "big5hkscs", "cp949"),
)
# What only old programs write, or those who ask for it. They are believed where they fit better.
_RARE: Final = ("mac-roman", "mac-latin2", "mac-cyrillic", "cp437", "cp850", "cp852", "cp866")
_HEAD_BYTES: Final = 64 * 1024
_LINE_MAX_BYTES: Final = 64 * 1024  # of a line that is looked at
_COUNTED_LINES: Final = 100_000  # with bytes that are not ASCII; how it goes on is clear by then
_SAMPLE_CELLS: Final = 2_000
_SAMPLE_LINES: Final = 3
_KEPT_LINES: Final = 100
_CANDIDATES_MAX: Final = 8
_ENOUGH_WORDS: Final = 10
_MUCH_BETTER: Final = 1.6
_SENSELESS: Final = 0.05  # of the characters that are not ASCII
_STRANGE: Final = 0.3  # of them, in what is UTF-8
_CELL_MAX_BYTES: Final = 200
_SHOWN_CHARACTERS: Final = 120  # of a sample line

_FORMAT: Final = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufe0f]")
_FOREIGN_LINE: Final = re.compile(rb"[^\r\n]*[\x80-\xff][^\r\n]*")
_CELL: Final = re.compile(rb'[^\r\n,;|\t"<>()]+')
_WINDOWS_NAME: Final = re.compile(r"^windows-(?=[0-9]+$)")
_DIGITS: Final = re.compile(rb"[0-9]+")


class EncodingUnknown(Exception):
    """No encoding of text is called that. The message is a sentence that names the nearest."""


class Because(StrEnum):
    """Why a file is read in an encoding."""

    NAMED = "named"  # by who sent it
    MARK = "mark"  # a byte order mark at its beginning
    BYTES = "bytes"  # it is UTF-8 or UTF-16, but for rows that are rejected
    DETECTED = "detected"  # nothing else makes sense of it, or much less
    UNSURE = "unsure"  # more than one makes sense; it is not read


class Candidate(NamedTuple):
    """An encoding that a file may be in, and how some of its lines read then."""

    encoding: str
    sample: tuple[str, ...]


class Reading(NamedTuple):
    """How a file's bytes are read."""

    encoding: str
    mark: int  # bytes of byte order marks at its beginning
    because: Because
    candidates: tuple[Candidate, ...] = ()  # best first, where it is unsure


def named_encoding(name: str) -> str:
    """The encoding that a sender calls `name`, as this project calls it.

    Raises `EncodingUnknown`, also for what Python calls an encoding and no file is in.
    """
    plain = name.strip().lower()
    codec = _codec(plain) if plain.isascii() and plain.isprintable() else None
    if codec is not None:
        return _BETTER_KNOWN_AS.get(codec) or codec.replace("iso8859", "iso-8859").replace("_", "-")
    near = difflib.get_close_matches(plain, _SUGGESTED, n=3) or (UTF8, WINDOWS, "iso-8859-2")
    raise EncodingUnknown(
        f'there is no encoding "{shown(name, 40)}" of text. Did you mean {" or ".join(near)}?'
    )


def _codec(name: str) -> str | None:
    """Python's own name of an encoding that a file may be in."""
    key = encodings.normalize_encoding(_WINDOWS_NAME.sub("cp", name.removeprefix("x-")))
    codec = "cp932" if key == "windows_31j" else aliases.get(key, key)
    return codec if codec in _CODECS else None


class Sniffer:
    """Finds out the encoding of a file while it passes by; no more than a sample is held.

    A byte order mark decides, then what the sender names. Else it is UTF-16 or UTF-32 where its
    zero bytes say so, and UTF-8 where all of it is, or where most lines that could be are: the
    others are rows that cannot be read. What is left is one of the many encodings with a table.
    """

    def __init__(self) -> None:
        self._head = b""
        self._rest = b""  # of a line that has no end yet
        self._utf8 = codecs.getincrementaldecoder(UTF8)("strict")
        self._is_utf8 = True
        self._good = _Lines()  # with bytes that are not ASCII, which are UTF-8
        self._bad = _Lines()  # and which are not
        self._cut_short = False  # the last line ends within a character, and only so is not UTF-8

    def feed(self, piece: bytes, *, final: bool = False) -> None:
        """Looks at the next piece; `final` says that there are no more."""
        if len(self._head) < _HEAD_BYTES:
            self._head += piece[: _HEAD_BYTES - len(self._head)]
        if self._is_utf8:
            try:
                self._utf8.decode(piece, final)
            except UnicodeDecodeError:
                self._is_utf8 = False
        if self._good.count + self._bad.count < _COUNTED_LINES:
            self._look(piece, final=final)

    def _look(self, piece: bytes, *, final: bool) -> None:
        if self._rest.isascii() and piece.isascii():
            end = max(piece.rfind(b"\n"), piece.rfind(b"\r")) + 1
            self._rest = (b"" if end else self._rest[-_LINE_MAX_BYTES:]) + piece[end:]
            self._rest = self._rest[-_LINE_MAX_BYTES:]
            return
        content = self._rest + piece
        end = max(content.rfind(b"\n"), content.rfind(b"\r")) + 1
        if final or len(content) - end > _LINE_MAX_BYTES:
            end = len(content)
        self._rest = content[end:]
        for match in _FOREIGN_LINE.finditer(content, 0, end):
            line = match[0]
            try:
                line.decode()
            except UnicodeDecodeError as error:
                at_end = final and match.end() == len(content)
                self._cut_short = at_end and error.reason == "unexpected end of data"
                if self._cut_short and not line[: error.start].isascii():
                    self._good.add(line[: error.start])
                self._bad.add(line)
            else:
                self._good.add(line)

    def reading(self, named: str | None = None) -> Reading:
        """How it is to be read, once the whole file has passed.

        `named` is the encoding that the sender has named, as `named_encoding` returns it.
        """
        encoding, mark = _by_mark(self._head)
        if mark:
            return Reading(encoding, mark, Because.MARK)
        if named is not None:
            return Reading(self._by_name(named), 0, Because.NAMED)
        if is_binary(self._head):
            return Reading(UTF8, 0, Because.BYTES)  # what it is is said when it is to be read
        if wide := _by_zeros(self._head):
            return Reading(wide, 0, Because.BYTES)
        if b"\x1b" in self._head and self._is_utf8 and not self._good.count:
            return Reading(_by_escapes(self._head), 0, Because.BYTES)
        if self._seems_utf8():
            return Reading(UTF8, 0, Because.BYTES)
        return self._by_words()

    def _by_name(self, named: str) -> str:
        pair = _WIDE.get(named)
        if pair is None:
            return named
        found = _by_zeros(self._head)
        return found if found in pair else pair[0]

    def _seems_utf8(self) -> bool:
        if not self._good.count:
            return self._is_utf8
        text = _FORMAT.sub("", _joined(self._good.cells, UTF8) or "")
        if senselessness(text) <= _STRANGE:
            return self._is_utf8 or self._good.count >= self._bad.count
        # "SPÓŁKA" in Windows-1250 is UTF-8 too, and reads "SPӣKA".
        return self._is_utf8 and not any(
            each.nonsense == 0 for each in _readings([*self._good.cells])
        )

    def _by_words(self) -> Reading:
        cells = [*self._bad.cells, *self._good.cells][:_SAMPLE_CELLS]
        lines = [*self._bad.lines, *self._good.lines]
        found = _readings(cells)
        may_be_utf8 = self._good.count > 0 or (self._cut_short and self._bad.count == 1)
        if not may_be_utf8 and found and _is_sure(found, _words(cells)):
            return Reading(found[0].encoding, 0, Because.DETECTED)
        likely = [each.encoding for each in found[:_CANDIDATES_MAX]]
        if may_be_utf8:
            likely.insert(0, UTF8)
        # Those first that say which it is.
        lines.sort(key=lambda line: -len({line.decode(each, "replace") for each in likely}))
        candidates = tuple(
            Candidate(each, _sample(lines[:_SAMPLE_LINES], each)) for each in likely or [WINDOWS]
        )
        return Reading(candidates[0].encoding, 0, Because.UNSURE, candidates)


class _Lines:
    """How many lines there were, and some of what is in them."""

    def __init__(self) -> None:
        self.count = 0
        self.lines: list[bytes] = []
        self.cells: dict[bytes, None] = {}  # distinct, in order, without digits
        self._seen: set[int] = set()  # bytes

    def add(self, line: bytes) -> None:
        self.count += 1
        if len(self.lines) < _KEPT_LINES:
            self.lines.append(line[: 4 * _SHOWN_CHARACTERS])
        # A byte that is new may be what two readings differ in.
        if len(self.cells) < _SAMPLE_CELLS or not self._seen.issuperset(line):
            self._seen.update(line)
            for cell in _CELL.findall(line[:_LINE_MAX_BYTES]):
                if not cell.isascii():
                    self.cells[_DIGITS.sub(b"", cell.strip())[:_CELL_MAX_BYTES]] = None


def _by_mark(head: bytes) -> tuple[str, int]:
    """What a byte order mark says, and how many bytes it takes, also where it is there twice."""
    for mark, name in _MARKS:
        if head.startswith(mark):
            length = len(mark)
            while head.startswith(mark, length):
                length += len(mark)
            again, more = _by_mark(head[length:]) if name == UTF8 else (name, 0)
            return name, length + (more if again == name else 0)
    return "", 0


def _by_zeros(head: bytes) -> str | None:
    """UTF-16 or UTF-32 without a mark, where its zero bytes say so."""
    if b"\0" not in head:
        return None
    if len(head) >= 4 and head[1] == head[3] == 0 != head[0] and head[2]:
        return "utf-16-le"
    if len(head) >= 4 and head[0] == head[2] == 0 != head[1] and head[3]:
        return "utf-16-be"
    found = chardet.detect(head)["encoding"] or ""
    return found.lower() if found.lower().startswith(("utf-16-", "utf-32-")) else None


def _by_escapes(head: bytes) -> str:
    found = chardet.detect(head)["encoding"] or ""
    return "iso2022-jp" if found.upper().startswith("ISO-2022-JP") else UTF8


class _Ranked(NamedTuple):
    encoding: str
    score: float  # of chardet's
    nonsense: float


def _readings(cells: Sequence[bytes]) -> list[_Ranked]:
    """The encodings in which the cells make sense, best first; of those that read alike one.

    Where none makes sense, those that make the least nonsense.
    """
    content = b"\n".join(cells)
    ranked = chardet.detect_all(
        content,
        include_encodings=(*_CANDIDATES, *_RARE),
        compat_names=False,
        ignore_threshold=True,
        max_bytes=max(len(content), 1),
    )
    scores = {
        codecs.lookup(it["encoding"]).name: it["confidence"] for it in ranked if it["encoding"]
    }
    by_text: dict[str, _Ranked] = {}
    for encoding in (*_CANDIDATES, *_RARE):
        text = _joined(cells, encoding)
        if text is None:
            continue
        score = scores.get(codecs.lookup(encoding).name, 0.0)
        if alike := by_text.get(text):
            by_text[text] = alike._replace(score=max(score, alike.score))
        else:
            by_text[text] = _Ranked(encoding, score, senselessness(text))
    most = max(_SENSELESS, min((each.nonsense for each in by_text.values()), default=0.0))
    sensible = [each for each in by_text.values() if each.nonsense <= most]
    best = max((each.score for each in sensible if each.encoding not in _RARE), default=0.0)
    likely = [each for each in sensible if each.encoding not in _RARE or each.score >= best]
    return sorted(likely, key=lambda each: -each.score)


def _is_sure(found: Sequence[_Ranked], words: int) -> bool:
    if found[0].nonsense > _SENSELESS:
        return False
    if len(found) == 1:
        return True
    return words >= _ENOUGH_WORDS and found[0].score >= _MUCH_BETTER * found[1].score


def _words(cells: Iterable[bytes]) -> int:
    """How many words there are that are not ASCII."""
    return len({word for cell in cells for word in cell.split() if not word.isascii()})


def _joined(cells: Iterable[bytes], encoding: str) -> str | None:
    try:
        return b"\n".join(cells).decode(encoding)
    except UnicodeDecodeError:
        return None


def _sample(lines: Iterable[bytes], encoding: str) -> tuple[str, ...]:
    return tuple(shown(line.decode(encoding, "replace"), _SHOWN_CHARACTERS) for line in lines)


def senselessness(text: str) -> float:
    """How many of the characters that are not ASCII stand where none would, 0 to 1.

    Where a word is read in the wrong encoding there are signs inside it ("£ukasz"), capitals behind
    small letters ("ZoÃ«"), letters of two scripts ("Joи") and characters that nobody writes.
    """
    wrong = total = 0
    for before, character, behind in _neighbours(text):
        if not character.isascii():
            total += 1
            wrong += _is_misplaced(before, character, behind)
    return wrong / total if total else 0.0


def _neighbours(text: str) -> Iterator[tuple[str, str, str]]:
    return zip(f" {text}", text, f"{text[1:]} ", strict=False)


def _is_misplaced(before: str, character: str, behind: str) -> bool:
    kind = unicodedata.category(character)
    follows, precedes = before.isalpha(), behind.isalpha()
    if kind in ("Cc", "Cn", "Co", "Cs", "Cf"):
        return True
    if kind[0] == "L":
        scripts = {_script(each) for each in (before, character, behind) if each.isalpha()}
        shouts = (before.islower() and character.isupper()) or (
            behind.isascii() and character.islower() and behind.isupper()
        )
        return len(scripts) > 1 or shouts or (character in "ªº" and precedes)
    if kind[0] == "M":
        of_the_same = _script(character) in ("COMBINING", _script(before))
        return not (of_the_same and (follows or unicodedata.category(before)[0] == "M"))
    if kind[0] == "P":
        return follows and precedes and character not in "’‘‐–—·"
    if kind[0] == "S" or kind == "No":
        drawn = "\u2500" <= character <= "\u259f"
        return drawn or (precedes and kind != "So") or (follows and kind not in ("So", "No"))
    return False


@lru_cache(maxsize=4096)
def _script(character: str) -> str:
    """The script of a letter or mark, as its name begins; the three of Japanese are one here."""
    script = unicodedata.name(character, "?").split()[0].split("-")[0]
    return "CJK" if script in ("HIRAGANA", "KATAKANA", "IDEOGRAPHIC", "FULLWIDTH") else script
