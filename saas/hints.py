"""The commands that an operator runs next, after what the library says.

The library's sentences name none: it does not know which application it is part of.
"""

from __future__ import annotations

import re
from typing import Final

_TENANT: Final = r"(?P<tenant>[a-z0-9][a-z0-9_-]{0,62})"
_JOB: Final = r"(?P<job>[a-z][a-z0-9_.]*)"

# By the type of an error: how its message begins, and what follows it then.
_HINTS: Final = {
    kind: tuple((re.compile(begins), hint) for begins, hint in hints.items())
    for kind, hints in {
        "TenantSuspended": {
            f"{_TENANT} is suspended since ": '"starter.py tenants resume {tenant}" does so.',
        },
        "TenantUnknown": {
            "there is no tenant ": '"starter.py tenants list" shows who there is.',
        },
        "ApiKeyUnknown": {
            f"{_TENANT} has no key ": '"starter.py api-keys list --tenant {tenant}" shows all.',
        },
        "InputForgotten": {
            f"the input of {_TENANT}/{_JOB}/": '"starter.py run {job} --tenant {tenant}" does so.',
        },
        "MigrationsBehind": {
            "": '"starter.py migrate" does so, with the owner\'s DATABASE_URL.',
        },
        "FairnessOff": {
            "": 'Then "starter.py doctor" tries again.',
        },
        "ConfigurationError": {
            "this process has no database for tenants": "Set TENANT_DATABASE_URL.",
            "this process has no control plane database": "Set PLATFORM_DATABASE_URL.",
        },
    }.items()
}
_SENTENCE: Final = re.compile(r"(?P<lead>(?:was skipped: )?)(?P<kind>\w+): (?P<message>.*)", re.S)

_OF_ALERTS: Final = {
    "dead_letters.age": '"starter.py dead-letters list" shows them.',
    "outbox.age": '"starter.py outbox list" shows what waits.',
}
_KIND_OF_LETTERS: Final = "dead_letter."  # before the fingerprint, in an alert's name


def with_hint(sentence: str) -> str:
    """`TenantUnknown: there is no tenant x. …` and what to run next, where a command helps."""
    said = _SENTENCE.fullmatch(sentence)
    if said is None:
        return sentence
    kind = said["kind"]
    return f"{said['lead']}{kind}: {message_with_hint(kind, said['message'])}"


def message_with_hint(kind: str, message: str) -> str:
    """What an error of this type says, and what to run next, where a command helps."""
    for begins, hint in _HINTS.get(kind, ()):
        found = begins.match(message)
        if found is not None:
            return _and(message, hint.format(**found.groupdict()))
    return message


def summary_with_hint(alert: str, summary: str) -> str:
    """What an alert of this name says, and what to run next, where a command helps."""
    if alert.startswith(_KIND_OF_LETTERS):
        fingerprint = alert.removeprefix(_KIND_OF_LETTERS)
        hint = f'"starter.py dead-letters list --fingerprint {fingerprint}" shows them.'
        return _and(summary, hint)
    return _and(summary, _OF_ALERTS[alert]) if alert in _OF_ALERTS else summary


def _and(text: str, hint: str) -> str:
    # What an older worker has written down says it already, in its own words.
    return text if "starter.py" in text else f"{text} {hint}"
