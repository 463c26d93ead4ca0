"""Untrusted text, made safe to show to users.

A terminal executes control characters, and format characters can display text reversed or hide it.
Both are escaped wherever such text becomes part of a sentence.
"""

from __future__ import annotations

import json
import unicodedata

_ESCAPED = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})  # Unicode general categories


def printable(text: str, *, lines: bool = False) -> str:
    """Escapes control and format characters as Python does: `\\x1b`, `\\u202e`.

    Args:
        text: any text.
        lines: whether to keep newlines and tabs; the default escapes them too.
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
    """Returns whether a character controls the output or is invisible when printed."""
    return unicodedata.category(character) in _ESCAPED


def spelled_out(character: str) -> str:
    """Returns the Python escape of a character: `\\n`, `\\x1b`, `\\u202e`."""
    return character.encode("unicode_escape").decode("ascii")


def printable_json(text: str) -> str:
    """Escapes hidden characters in the strings of a JSON text, without changing its value.

    Args:
        text: JSON, formatted with newlines and spaces only; these stay.
    """
    if text.isascii() and "\x7f" not in text:
        return text  # JSON escapes all other control characters itself
    return "".join(
        character
        if character == "\n" or not is_hidden(character)
        else f"\\u{ord(character):04x}"
        if ord(character) < 0x10000
        else json.dumps(character)[1:-1]  # a surrogate pair
        for character in text
    )


def quoted(text: str) -> str:
    """Returns `text` in double quotes, escaped and cut to 80 characters, for use in a sentence."""
    shown = text if len(text) <= 80 else f"{text[:80]}…"
    return f'"{printable(shown)}"'
