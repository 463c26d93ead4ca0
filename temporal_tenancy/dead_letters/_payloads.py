"""The result of a dead-letter sweep."""

from __future__ import annotations

from pydantic import BaseModel


class Swept(BaseModel):
    """The counts of one dead-letter sweep."""

    found: int  # failed runs that got a letter
    resolved: int  # letters whose jobs have succeeded since
    forgotten: int  # settled letters that were deleted
    alerts: int  # sent
