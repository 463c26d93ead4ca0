"""Text that came from outside, as people may be shown it.

A terminal obeys control characters, and format characters show a reader something else than what
is there (reversed, or not at all). Both are spelled out, wherever a sentence is put together.
"""

from __future__ import annotations

import json
import unicodedata

_SPELLED_OUT = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def printable(text: str, *, lines: bool = False) -> str:
    """Spells out control and format characters, line ends too, as Python does: `\\x1b`, `\\u202e`.

    With `lines` a line end and a tab stay what they are.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character
        if (lines and character in "\n\t") or not is_hidden(character)
        else spelled_out(character)
        for character in text
    )


def is_hidden(character: str) -> bool:
    """Whether a character does something, or shows nothing, where it is printed."""
    return unicodedata.category(character) in _SPELLED_OUT


def spelled_out(character: str) -> str:
    """A character as Python's own escapes have it: `\\n`, `\\x1b`, `\\u202e`."""
    return character.encode("unicode_escape").decode("ascii")


def printable_json(text: str) -> str:
    """A JSON text that says the same, with what `is_hidden` in its strings escaped as JSON has it.

    `text` is not formatted but by line ends and blanks, which stay.
    """
    if text.isascii() and "\x7f" not in text:
        return text  # JSON has escaped the others
    return "".join(
        character
        if character == "\n" or not is_hidden(character)
        else f"\\u{ord(character):04x}"
        if ord(character) < 0x10000
        else json.dumps(character)[1:-1]  # two halves
        for character in text
    )


def quoted(text: str) -> str:
    """`text` in quotes, for a sentence; cut where it is very long."""
    shown = text if len(text) <= 80 else f"{text[:80]}…"
    return f'"{printable(shown)}"'
