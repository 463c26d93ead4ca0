"""What an alert is called, which page says what to do, and which command shows more.

The alerting rules for Prometheus and the library's own alerts take their words from here, so that a
person reads the same wherever an alert arrives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class AlertWords:
    """The words that every alert of one kind carries, beside its own summary."""

    title: str
    runbook: str  # the path of the page, in the project's tree
    command: str  # of the operators' command line, without the program's name


DEAD_LETTERS: Final = AlertWords(
    "A job failed permanently", "docs/runbooks/dead-letter-open.md", "dead-letters list"
)
OLD_MESSAGES: Final = AlertWords(
    "Messages wait for too long", "docs/runbooks/relay-lag.md", "outbox list"
)
RELEASE_HALTED: Final = AlertWords(
    "A release was halted", "docs/runbooks/release-halted.md", "deployments list"
)
