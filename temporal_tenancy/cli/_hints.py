"""Adds the command that an operator runs next to the library's sentences.

The library's sentences do not name commands: the library does not know which program shows them.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from typing import Final

IN_OWN_DIRECTORY: Final = "Its status is in the application's own directory"

_TENANT: Final = r"(?P<tenant>[A-Za-z0-9][A-Za-z0-9_-]{0,62})"
_RESUME: Final = '"{program} tenants resume {tenant}" does so.'
_JOB: Final = r"(?P<job>[a-z][a-z0-9_.]*)"

# By the error's type: how its message begins, and the hint that follows it.
_HINTS: Final = {
    "TenantSuspended": {
        rf"{_TENANT} is suspended(?: since |\.)": _RESUME,
    },
    "TenantUnknown": {
        "there is no tenant ": '"{program} tenants list" shows who there is.',
    },
    "StoreUnknown": {
        "": '"{program} stores list" shows which there are.',
    },
    "SchemaBehind": {
        "the store of ": '"{program} migrate --status" shows how far it is, and why.',
    },
    "NoStoreFree": {
        r"no prepared .* (?P<store>[a-z0-9_]+) is empty but drained: let it take tenants": (
            '"{program} stores undrain {store}" does so.'
        ),
        "no prepared schema store in the region (?P<region>[A-Za-z0-9_-]+) is free for ": (
            '"{program} stores add --region {region}" prepares one.'
        ),
        "no prepared database store in the region (?P<region>[A-Za-z0-9_-]+) is free for ": (
            '"{program} stores add --isolation database --region {region}" prepares one.'
        ),
        "no prepared schema store": '"{program} stores add" prepares one.',
        "no prepared database store": '"{program} stores add --isolation database" prepares one.',
    },
    "StorePreparationFailed": {
        "the store (?P<store>[a-z0-9_]+) could not be prepared": (
            '"{program} stores add {store}" goes on, "{program} stores remove {store}" drops it.'
        ),
    },
    "InputForgotten": {
        f"the input of {_TENANT}/{_JOB}/(?P<key>.+?) was not stored": (
            '"{program} run {job} --tenant {tenant} --key {key} --input JSON" does so.'
        ),
    },
    "InstallationElsewhere": {
        "": '"{program} migrate --move" does so; with --beside, "{program} migrate" makes a second '
        "installation.",
    },
    "MigrationsBehind": {
        "": '"{program} migrate" does so.',
    },
    "SearchAttributesMissing": {
        r"the namespace .* has no search attribute (?!.*schedules apply)": (
            '"{program} schedules apply" does so.'
        ),
    },
    "NotFoundError": {
        "Workflow class .* is not registered on this worker": "Add it to the workflows of the "
        "worker that serves this queue, and restart the worker.",
        "Activity function .* is not registered on this worker": "Add it to the activities of "
        "the worker that serves this queue, and restart the worker.",
    },
    "FairnessOff": {
        "": 'Then "{program} doctor" tries again.',
    },
}
# By the hint: what is said where the tenants are in the application's own directory, which no
# command changes.
_ELSEWHERE: Final = {_RESUME: f"{IN_OWN_DIRECTORY}."}
_SENTENCE: Final = re.compile(r"(?P<lead>(?:was skipped: )?)(?P<kind>\w+): (?P<message>.*)", re.S)

_OF_ALERTS: Final = {
    "dead_letters.age": '"{program} dead-letters list" shows them.',
    "outbox.age": '"{program} outbox list" shows what waits.',
}
_KIND_OF_LETTERS: Final = "dead_letter."  # before the fingerprint, in an alert's name
_OF_ITS_KIND: Final = '"{program} dead-letters list --fingerprint {fingerprint}" shows them.'


def _never() -> bool:
    return False


class Hints:
    """The commands to run next, under one program's name."""

    def __init__(self, program: str, own: Mapping[str, Mapping[str, str]] | None = None) -> None:
        """
        Args:
            program: the name of the command line, such as `tenancy`.
            own: the application's hints, by type of error. They replace the library's for the same
                type. Each maps a regular expression, which matches the beginning of the message,
                to the hint. A hint may use the expression's named groups and `program` in braces.
        """
        self.program = program
        self._hints = {
            kind: tuple((re.compile(begins), hint) for begins, hint in hints.items())
            for kind, hints in {**_HINTS, **(own or {})}.items()
        }

    def sentence(self, sentence: str, own_directory: Callable[[], bool] = _never) -> str:
        """Adds a hint, if a command helps, to `TenantUnknown: there is no tenant x. …`.

        `own_directory` returns whether the tenants are in a directory of the application's own.
        """
        parts = _SENTENCE.fullmatch(sentence)
        if parts is None:
            return sentence
        kind = parts["kind"]
        return f"{parts['lead']}{kind}: {self.message(kind, parts['message'], own_directory)}"

    def message(self, kind: str, message: str, own_directory: Callable[[], bool] = _never) -> str:
        """As `sentence()`, for the message of an error of the type `kind`."""
        for begins, hint in self._hints.get(kind, ()):
            match = begins.match(message)
            if match is not None:
                if hint in _ELSEWHERE and own_directory():
                    hint = _ELSEWHERE[hint]
                return self._and(message, hint, **match.groupdict())
        return message

    def summary(self, alert: str, summary: str) -> str:
        """Adds a hint, if a command helps, to the summary of the alert of that name."""
        if alert.startswith(_KIND_OF_LETTERS):
            fingerprint = alert.removeprefix(_KIND_OF_LETTERS)
            return self._and(summary, _OF_ITS_KIND, fingerprint=fingerprint)
        return self._and(summary, _OF_ALERTS[alert]) if alert in _OF_ALERTS else summary

    def _and(self, text: str, hint: str, **values: str) -> str:
        # Older workers put the command into the text.
        if f'"{self.program} ' in text or text.endswith(hint):
            return text
        words = {name: shlex.quote(value) for name, value in values.items()}
        return f"{text} {hint.format(program=self.program, **words)}"
