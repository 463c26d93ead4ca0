"""Turns the library's messages, which follow an error's type, into sentences."""

from __future__ import annotations

import re
from typing import Final

_WORD: Final = re.compile(r"[a-z]+(?=[ ,:;])")  # not a name, such as `report.daily` or `x.example`
_ENDS: Final = (".", "!", "?", "…")


def sentence(message: str) -> str:
    """Returns `message` with a capital letter at its beginning, and a full stop at its end.

    A message that may begin with a tenant's own word, such as the name of an integration, says
    first what that is, as the word would be changed.
    """
    if _WORD.match(message):
        message = message[0].upper() + message[1:]
    return message if message.endswith(_ENDS) else f"{message}."
