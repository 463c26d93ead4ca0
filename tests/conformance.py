"""The conformance suite: which tests run in which modes, and why.

A test is here if a mode can change its outcome: it sends SQL of tenants, or looks at what a session
has left. What comes before a session (agreement, guards, refused SQL) and after it runs once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

import pytest

from temporal_tenancy.core.stores import Isolation

HERE: Final = Path(__file__).parent
FULL: Final = "CONFORMANCE"  # the variable: "full" runs all tests of the table in all their modes


class Mode(StrEnum):
    """Where tenants' rows are, and what is between the runtime and the server."""

    SHARED = "shared"
    SCHEMA = "schema"
    DATABASE = "database"
    PGBOUNCER = "pgbouncer"  # in transaction mode; the rows are in the shared tables

    @property
    def isolation(self) -> Isolation:
        """The isolation of the tenants that a test adds."""
        return Isolation.SHARED if self is Mode.PGBOUNCER else Isolation(self.value)


OTHERS: Final = (Mode.SCHEMA, Mode.DATABASE, Mode.PGBOUNCER)


@dataclass(frozen=True)
class Conforming:
    """How a module takes part.

    Args:
        quick: the tests that `make test` runs in the other modes; None: all of them.
        modes: in which its tests run besides `shared`.
        once: the tests that run in `shared` alone, each with the reason.
    """

    quick: Sequence[str] | None = None
    modes: Sequence[Mode] = OTHERS
    once: Mapping[str, str] = field(default_factory=dict)


THE_SERVERS: Final = "it looks at connections to the server, and a pooler has its own"
THE_SHARED: Final = "it looks at the shared tables, or at the roles that they have"
GENERATED: Final = "it makes plans of the steps that run one by one in each mode"

SUITE: Final[Mapping[str, Conforming]] = {
    "isolation/test_pool.py": Conforming(),
    "isolation/test_leak_hunt.py": Conforming(
        once={
            "test_no_statement_reads_or_moves_another_tenants_row": GENERATED,
            "test_each_action_finds_a_wall_that_is_down_unless_another_is_before_it": THE_SHARED,
        }
    ),
}


def modes_of(metafunc: pytest.Metafunc) -> Sequence[Mode]:
    """Returns the modes in which a test runs."""
    if os.environ.get("MODES"):  # XXX
        return [Mode(name) for name in os.environ["MODES"].split(",")]
    path = metafunc.definition.path
    conforming = SUITE.get(path.relative_to(HERE).as_posix()) if HERE in path.parents else None
    name = metafunc.function.__name__
    if conforming is None or name in conforming.once:
        return [Mode.SHARED]
    is_full = os.environ.get(FULL) == "full"
    if is_full or conforming.quick is None or name in conforming.quick:
        return [Mode.SHARED, *conforming.modes]
    return [Mode.SHARED]


if __name__ == "__main__":
    for module in SUITE:
        print(f"tests/{module}")
