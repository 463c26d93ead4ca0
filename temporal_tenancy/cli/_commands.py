"""Commands of the current program that a person can paste into a shell."""

from __future__ import annotations

import json
import shlex
from typing import Any

from temporal_tenancy.cli.program import current_program
from temporal_tenancy.core.display import is_hidden, printable_json


def command(*words: str) -> str:
    """Returns a command of the current program, with its words quoted for a shell."""
    return " ".join((current_program().name, *map(shell_word, words)))


def quoted_command(*words: str) -> str:
    """Returns a command of the current program in quotation marks, for a sentence."""
    return f'"{command(*words)}"'


def shell_word(text: str) -> str:
    """Returns the word that a shell such as bash reads as `text`, without hidden characters."""
    if not any(map(is_hidden, text)):
        return shlex.quote(text)
    escaped = "".join(
        f"\\U{ord(each):08x}" if is_hidden(each) else f"\\{each}" if each in "\\'" else each
        for each in text
    )
    return f"$'{escaped}'"


def json_word(value: Any) -> str:
    """Returns a value (JSON) as the text of one word, without hidden characters."""
    return printable_json(json.dumps(value, ensure_ascii=False))
