"""The commands that an operator runs next, after what the library says.

The library's sentences name none: they do not know which program they are read in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_TENANT: Final = r"(?P<tenant>[a-z0-9][a-z0-9_-]{0,62})"
_JOB: Final = r"(?P<job>[a-z][a-z0-9_.]*)"

# By the type of an error: how its message begins, and what follows it then.
_HINTS: Final = {
    "TenantSuspended": {
        f"{_TENANT} is suspended since ": '"{program} tenants resume {tenant}" does so.',
    },
    "TenantUnknown": {
        "there is no tenant ": '"{program} tenants list" shows who there is.',
    },
    "InputForgotten": {
        f"the input of {_TENANT}/{_JOB}/": '"{program} run {job} --tenant {tenant}" does so.',
    },
    "MigrationsBehind": {
        "": '"{program} migrate" does so.',
    },
    "FairnessOff": {
        "": 'Then "{program} doctor" tries again.',
    },
}
_SENTENCE: Final = re.compile(r"(?P<lead>(?:was skipped: )?)(?P<kind>\w+): (?P<message>.*)", re.S)

_OF_ALERTS: Final = {
    "dead_letters.age": '"{program} dead-letters list" shows them.',
    "outbox.age": '"{program} outbox list" shows what waits.',
}
_KIND_OF_LETTERS: Final = "dead_letter."  # before the fingerprint, in an alert's name
_OF_ITS_KIND: Final = '"{program} dead-letters list --fingerprint {fingerprint}" shows them.'


class Hints:
    """What to run next, in one program's words."""

    def __init__(self, program: str, own: Mapping[str, Mapping[str, str]] | None = None) -> None:
        """
        Args:
            program: how a person calls the command line, such as `tenancy`.
            own: the application's hints, in the place of the library's for the same type of error:
                by that type, what follows a message that begins with a regular expression. The
                expression's named groups, and `program`, may stand in braces.
        """
        self.program = program
        self._hints = {
            kind: tuple((re.compile(begins), hint) for begins, hint in hints.items())
            for kind, hints in {**_HINTS, **(own or {})}.items()
        }

    def sentence(self, sentence: str) -> str:
        """`TenantUnknown: there is no tenant x. …`, and what to run next where a command helps."""
        parts = _SENTENCE.fullmatch(sentence)
        if parts is None:
            return sentence
        kind = parts["kind"]
        return f"{parts['lead']}{kind}: {self.message(kind, parts['message'])}"

    def message(self, kind: str, message: str) -> str:
        """An error's message, by the error's type, and what to run next where a command helps."""
        for begins, hint in self._hints.get(kind, ()):
            found = begins.match(message)
            if found is not None:
                return self._and(message, hint, **found.groupdict())
        return message

    def summary(self, alert: str, summary: str) -> str:
        """An alert's summary, by the alert's name, and what to run next where a command helps."""
        if alert.startswith(_KIND_OF_LETTERS):
            fingerprint = alert.removeprefix(_KIND_OF_LETTERS)
            return self._and(summary, _OF_ITS_KIND, fingerprint=fingerprint)
        return self._and(summary, _OF_ALERTS[alert]) if alert in _OF_ALERTS else summary

    def _and(self, text: str, hint: str, **found: str) -> str:
        # An older worker wrote the command into the text itself.
        if self.program in text:
            return text
        return f"{text} {hint.format(program=self.program, **found)}"
