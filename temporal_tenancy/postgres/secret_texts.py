"""Texts that are used as they are, and not shown by tracebacks with locals."""

from __future__ import annotations

from typing import Any, TypeVar

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

Text = TypeVar("Text", str, str | None)


class Secret(str):
    """A password, or a URL with one, whose `repr()` hides it; otherwise the text itself.

    For what `pytest --showlocals` and collectors of errors show: they call `repr()`.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        """Returns a URL without its password and options, and nothing of another text."""
        try:
            url = make_url(str.__str__(self))
        except (ArgumentError, ValueError):
            return "'***'"
        return repr(url.set(query={}).render_as_string(hide_password=True))

    def __getitem__(self, key: Any) -> Secret:  # long texts are shown in part
        return Secret(str.__getitem__(self, key))


def hidden(text: Text) -> Text:
    """Returns a text that its `repr()` does not show; None for None."""
    return text if text is None else Secret(text)
