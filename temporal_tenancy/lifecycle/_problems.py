"""Why a process cannot start, or cannot continue."""

from __future__ import annotations


class ProcessProblem(Exception):
    """A process cannot start, or cannot continue."""

    def __init__(self, message: str | None = None) -> None:
        """`message`: what is wrong and what to do about it, without credentials."""
        self.message = message or type(self).__doc__ or ""
        super().__init__(self.message)

    @property
    def sentence(self) -> str:
        """The type and the message, as people see them."""
        return f"{type(self).__name__}: {self.message}"


class PortInUse(ProcessProblem):
    """The port is in use, or cannot be opened."""


class WorkerFailed(ProcessProblem):
    """A worker or relay ended with an error."""
