"""Errors of requests and jobs that no retry can fix."""

from __future__ import annotations

from temporalio.exceptions import ApplicationError


class Refused(ApplicationError):
    """Something cannot be done as requested. The failure's type is the name of the class."""

    def __init__(self, message: str, *details: object) -> None:
        """`details` (JSON) go to the caller with the failure."""
        super().__init__(message, *details, type=type(self).__name__, non_retryable=True)
