"""What a sweep returns."""

from __future__ import annotations

from pydantic import BaseModel


class Swept(BaseModel):
    """What a sweep of the dead letters came to."""

    found: int  # letters that no workflow could write itself
    resolved: int  # whose jobs have succeeded since
    forgotten: int  # that were settled long ago
    alerts: int  # sent to people
