"""Finds the encoding of a text file: the sender names it, its bytes tell, or the sender is asked.

`chardet` ranks the candidates, but does not say when two of them fit equally well. In a list of
names they often do: the same bytes are "Lefèvre" in Windows-1252 and "Lefčvre" in Windows-1250. So
an encoding is accepted only if no other one gives words, or if it fits much better over enough
words; otherwise the sender is asked.
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

# Labels as browsers read them (WHATWG Encoding, 4.2): the Windows code page is a superset of the
# standard of that name.
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
# Codecs that are not for text, and those in which a comma or line ending is not its ASCII byte
# (EBCDIC, UTF-7) or means something else after a shift sequence (HZ, ISO-2022-KR).
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
_SUGGESTED: Final = tuple(  # the names that people know; aliases lead to the others
    f"{UTF8} utf-16 {WINDOWS} windows-1250 windows-1251 windows-1253 windows-1254 windows-1255 "
    "windows-1256 windows-1257 windows-1258 cp874 iso-8859-1 iso-8859-2 iso-8859-5 iso-8859-7 "
    "iso-8859-9 iso-8859-15 koi8-r koi8-u macroman cp437 cp850 cp852 cp866 shift_jis euc-jp "
    "iso-2022-jp gb18030 gbk big5 euc-kr cp949".split()
)

_MARKS: Final = (  # a mark comes before any mark that is its prefix
    (codecs.BOM_UTF8, UTF8),
    ("\ufeff".encode().decode("cp1252").encode(), UTF8),  # one that was misread as Windows-1252
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

# The encodings that programs have exported contacts in over the last thirty years.
_CANDIDATES: Final = (
    *(WINDOWS, "windows-1250", "windows-1251", "windows-1253", "windows-1254", "windows-1255"),
    *("windows-1256", "windows-1257", "windows-1258", "cp874", "iso-8859-2", "iso-8859-5"),
    *("iso-8859-15", "koi8-r", "koi8-u", "cp932", "euc-jp", "gb18030", "big5hkscs", "cp949"),
)
# Encodings that only old programs write, or on request. They count only if they fit best.
_RARE: Final = ("mac-roman", "mac-latin2", "mac-cyrillic", "cp437", "cp850", "cp852", "cp866")
_HEAD_BYTES: Final = 64 * 1024
_LINE_MAX_BYTES: Final = 64 * 1024  # examined per line
_LOOK_BYTES: Final = 64 * 1024  # examined at once: a chunk may be a single byte
_COUNTED_LINES: Final = 100_000  # lines with non-ASCII bytes; by then the encoding is clear
_SAMPLE_CELLS: Final = 2_000
_SAMPLE_LINES: Final = 3
_KEPT_LINES: Final = 100
_CANDIDATES_MAX: Final = 8
_ENOUGH_WORDS: Final = 10
_MUCH_BETTER: Final = 1.6
_SENSELESS: Final = 0.05  # share of the non-ASCII characters
_STRANGE: Final = 0.3  # the same, in valid UTF-8
_CELL_MAX_BYTES: Final = 200
_SHOWN_CHARACTERS: Final = 120  # of a sample line

_FORMAT: Final = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufe0f]")
# From a line's first non-ASCII byte. To match all of the line would start anew at each ASCII byte.
_FOREIGN: Final = re.compile(rb"[\x80-\xff][^\r\n]*")
_CELL: Final = re.compile(rb'[^\r\n,;|\t"<>()]+')
_WINDOWS_NAME: Final = re.compile(r"^windows-(?=[0-9]+$)")
_DIGITS: Final = re.compile(rb"[0-9]+")


class EncodingUnknown(Exception):
    """No text encoding has that name. The message suggests similar names."""


class Because(StrEnum):
    """Why an encoding was chosen."""

    NAMED = "named"  # the sender named it
    MARK = "mark"  # the file begins with its byte order mark
    BYTES = "bytes"  # the bytes are valid in it, except in rows that are rejected
    DETECTED = "detected"  # no other one makes sense, or much less
    UNSURE = "unsure"  # several make sense; the file is not imported


class Candidate(NamedTuple):
    """A possible encoding of a file, with some of its lines in it."""

    encoding: str
    sample: tuple[str, ...]


class Reading(NamedTuple):
    """The encoding of a file, and why it was chosen."""

    encoding: str
    mark: int  # size of the byte order marks at the beginning, in bytes
    because: Because
    candidates: tuple[Candidate, ...] = ()  # best first, if unsure


def named_encoding(name: str) -> str:
    """Returns this project's name of the encoding that a sender calls `name`.

    Raises `EncodingUnknown`, also for Python codecs that no text file uses.
    """
    label = name.strip().lower()
    codec = _codec(label) if label.isascii() and label.isprintable() else None
    if codec is not None:
        return _BETTER_KNOWN_AS.get(codec) or codec.replace("iso8859", "iso-8859").replace("_", "-")
    near = difflib.get_close_matches(label, _SUGGESTED, n=3) or (UTF8, WINDOWS, "iso-8859-2")
    raise EncodingUnknown(
        f'there is no text encoding "{shown(name, 40)}". Did you mean {" or ".join(near)}?'
    )


def _codec(name: str) -> str | None:
    """Returns Python's name of a text encoding, or None."""
    key = encodings.normalize_encoding(_WINDOWS_NAME.sub("cp", name.removeprefix("x-")))
    codec = "cp932" if key == "windows_31j" else aliases.get(key, key)
    return codec if codec in _CODECS else None


class Sniffer:
    """Detects the encoding of a file as it streams past, keeping only a sample in memory.

    A byte order mark decides; then the name that the sender gave. Otherwise the file is UTF-16 or
    UTF-32 if its zero bytes show that, and UTF-8 if all of it is valid or at least half of its
    non-ASCII lines are: the others are unreadable rows. What remains is one of the candidates.
    """

    def __init__(self) -> None:
        self._head = b""
        self._waiting: list[bytes] = []  # chunks that have not been examined
        self._waiting_bytes = 0
        self._rest = b""  # the incomplete last line
        self._utf8 = codecs.getincrementaldecoder(UTF8)("strict")
        self._is_utf8 = True
        self._good = _Lines()  # non-ASCII lines that are valid UTF-8
        self._bad = _Lines()  # non-ASCII lines that are not
        self._cut_short = False  # the last line would be UTF-8 but for a character cut short

    def feed(self, piece: bytes, *, final: bool = False) -> None:
        """Examines the next chunk; `final` marks the last one.

        Takes time in proportion to the chunk, whatever is in it.
        """
        ready = final or not self.holds(piece)
        self._waiting.append(piece)
        self._waiting_bytes += len(piece)
        if ready:
            whole = b"".join(self._waiting)
            self._waiting.clear()
            self._waiting_bytes = 0
            self._examine(whole, final=final)

    def holds(self, piece: bytes) -> bool:
        """Whether `feed` would only keep the chunk, and examine it with a later one."""
        return self._waiting_bytes + len(piece) < _LOOK_BYTES

    def _examine(self, piece: bytes, *, final: bool) -> None:
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
        done = 0  # where the last line ended
        for match in _FOREIGN.finditer(content, 0, end):
            before = max(content.rfind(ending, done, match.start()) for ending in (b"\n", b"\r"))
            line = content[max(done, before + 1) : match.end()]
            done = match.end()
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
        """Returns how to read the file; call it after the last chunk.

        `named` is the encoding that the sender named, as returned by `named_encoding`.
        """
        encoding, mark = _by_mark(self._head)
        if mark:
            return Reading(encoding, mark, Because.MARK)
        if named is not None:
            return Reading(self._by_name(named), 0, Because.NAMED)
        if is_binary(self._head):
            return Reading(UTF8, 0, Because.BYTES)  # `read_header` refuses it, with the reason
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
        # "SPÓŁKA" in Windows-1250 is also valid UTF-8, but reads "SPӣKA".
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
        # First the lines in which the candidates differ most.
        lines.sort(key=lambda line: -len({line.decode(each, "replace") for each in likely}))
        candidates = tuple(
            Candidate(each, _sample(lines[:_SAMPLE_LINES], each)) for each in likely or [WINDOWS]
        )
        return Reading(candidates[0].encoding, 0, Because.UNSURE, candidates)


class _Lines:
    """A count of lines, with a sample of their content."""

    def __init__(self) -> None:
        self.count = 0
        self.lines: list[bytes] = []
        self.cells: dict[bytes, None] = {}  # distinct, in order, without digits
        self._seen: set[int] = set()  # bytes

    def add(self, line: bytes) -> None:
        self.count += 1
        if len(self.lines) < _KEPT_LINES:
            self.lines.append(line[: 4 * _SHOWN_CHARACTERS])
        if len(self.cells) >= _SAMPLE_CELLS and self._seen.issuperset(line):
            return
        for cell in _CELL.findall(line[:_LINE_MAX_BYTES]):
            # Two encodings may differ in just this new byte.
            if not cell.isascii() and (
                len(self.cells) < _SAMPLE_CELLS or not self._seen.issuperset(cell)
            ):
                self.cells[_DIGITS.sub(b"", cell.strip())[:_CELL_MAX_BYTES]] = None
                self._seen.update(cell)
        self._seen.update(line)


def _by_mark(head: bytes) -> tuple[str, int]:
    """Returns the encoding of a byte order mark and its size in bytes, repeated marks included."""
    for mark, name in _MARKS:
        if head.startswith(mark):
            length = len(mark)
            while head.startswith(mark, length):
                length += len(mark)
            again, more = _by_mark(head[length:]) if name == UTF8 else (name, 0)
            return name, length + (more if again == name else 0)
    return "", 0


def _by_zeros(head: bytes) -> str | None:
    """Returns UTF-16 or UTF-32, with byte order, if the zero bytes show it without a mark."""
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
    score: float  # chardet's
    nonsense: float


def _readings(cells: Sequence[bytes]) -> list[_Ranked]:
    """Returns the encodings in which the cells make sense, best first; one for each distinct text.

    If none makes sense, returns those with the least nonsense.
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
    """Counts the distinct words that are not ASCII."""
    return len({word for cell in cells for word in cell.split() if not word.isascii()})


def _joined(cells: Iterable[bytes], encoding: str) -> str | None:
    try:
        return b"\n".join(cells).decode(encoding)
    except UnicodeDecodeError:
        return None


def _sample(lines: Iterable[bytes], encoding: str) -> tuple[str, ...]:
    return tuple(shown(line.decode(encoding, "replace"), _SHOWN_CHARACTERS) for line in lines)


def senselessness(text: str) -> float:
    """Returns the share of the non-ASCII characters that are out of place, 0 to 1.

    In the wrong encoding, words contain symbols ("£ukasz"), capitals after small letters ("ZoÃ«"),
    letters of two scripts ("Joи") or characters that nobody writes.
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
    """Returns the script of a letter or mark by its Unicode name; Japanese scripts count as CJK."""
    script = unicodedata.name(character, "?").split()[0].split("-")[0]
    return "CJK" if script in ("HIRAGANA", "KATAKANA", "IDEOGRAPHIC", "FULLWIDTH") else script
