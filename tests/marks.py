"""Marks that test jobs leave, so that a test sees which of their code ran, and in what scope."""

from __future__ import annotations

from collections import defaultdict

_marks: dict[str, list[str]] = defaultdict(list)


def leave(workflow_id: str, mark: str) -> None:
    """Notes that code of `workflow_id` ran."""
    _marks[workflow_id].append(mark)


def of(workflow_id: str) -> list[str]:
    """The marks of one workflow, in order."""
    return list(_marks[workflow_id])
