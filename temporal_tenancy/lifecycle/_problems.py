"""Why a process cannot start, or cannot continue."""

from __future__ import annotations

from temporal_tenancy.core.problems import Problem


class ProcessProblem(Problem):
    """A process cannot start, or cannot continue."""


class PortInUse(ProcessProblem):
    """The port is in use, or cannot be opened."""


class WorkerFailed(ProcessProblem):
    """A worker or relay ended with an error."""
