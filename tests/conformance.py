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
# The variable: "full" runs all tests of the table in all their modes, "shared" all in that alone.
WANTED: Final = "CONFORMANCE"


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
        in_one_database: the tests that a database of its own cannot run, each with the reason.
    """

    quick: Sequence[str] | None = None
    modes: Sequence[Mode] = OTHERS
    once: Mapping[str, str] = field(default_factory=dict)
    in_one_database: Mapping[str, str] = field(default_factory=dict)

    def modes_of(self, test: str, *, full: bool) -> list[Mode]:
        """Returns the modes of one of its tests."""
        others = self.modes if full or self.quick is None or test in self.quick else ()
        if test in self.once:
            others = ()
        if test in self.in_one_database:
            others = [mode for mode in others if mode is not Mode.DATABASE]
        return [Mode.SHARED, *others]


ITS_PLACE: Final = "it looks at the shared tables, or at the roles and connections that they have"
ITS_PIDS: Final = "it follows a connection by its process, which a pooler hides"
NOTIFIED: Final = "it waits for a notification, and the outbox of another database is polled"

_HEARD: Final = "test_what_is_committed_while_nobody_listens_is_found_when_somebody_does_again"

SUITE: Final[Mapping[str, Conforming]] = {
    # A database has connections of its own: test_store_connections.py has many over few.
    "isolation/test_pool.py": Conforming(modes=(Mode.SCHEMA, Mode.PGBOUNCER)),
    "isolation/test_leak_hunt.py": Conforming(
        quick=("test_an_action_beside_another_tenants_rows_does_as_modelled",),
        once={"test_each_action_finds_a_wall_that_is_down_unless_another_is_before_it": ITS_PLACE},
    ),
    # On connections of its own, whose settings are the session's: not behind a pooler.
    "isolation/test_row_security.py": Conforming(
        quick=(
            "test_with_no_tenant_there_are_no_rows_on_a_fresh_or_a_used_connection",
            "test_no_statement_writes_another_tenants_row",
        ),
        modes=(Mode.SCHEMA, Mode.DATABASE),
    ),
    # Sessions in stores: test_stores.py, in each kind of store.
    "library/postgres/test_database.py": Conforming(
        quick=(
            "test_the_tenant_holds_inside_and_after_savepoints",
            "test_nothing_else_outlives_a_session_on_its_connection",
            "test_a_connection_lost_in_a_transaction_is_an_unreachable_database",
        ),
        modes=(Mode.PGBOUNCER,),
        once={
            "test_a_connection_that_keeps_a_tenant_is_thrown_away": ITS_PIDS,
            "test_a_server_that_closes_each_new_connection_is_an_unreachable_database": ITS_PIDS,
        },
    ),
    "library/outbox/test_once.py": Conforming(
        quick=("test_of_two_at_once_the_second_waits_and_does_nothing",)
    ),
    "library/outbox/test_requests.py": Conforming(
        quick=("test_a_relay_that_is_claiming_a_message_came_first",)
    ),
    "library/outbox/test_reused_keys.py": Conforming(
        quick=("test_another_input_under_a_used_key_is_a_dead_letter_that_can_be_replayed",)
    ),
    "library/outbox/test_relay.py": Conforming(
        quick=(
            "test_a_message_becomes_a_workflow_of_its_tenant",
            "test_what_is_rolled_back_was_never_asked_for",
            "test_a_relay_that_may_no_longer_read_the_directory_says_so_and_goes_on",
            _HEARD,
        ),
        in_one_database={_HEARD: NOTIFIED},
    ),
    "library/dead_letters/test_dead_letter_recording.py": Conforming(
        quick=(
            "test_a_failure_is_written_once_with_its_input",
            "test_who_write_the_same_at_once_write_one_letter",
        ),
    ),
    "library/dead_letters/test_dead_letter_replay.py": Conforming(
        quick=("test_a_job_runs_again_in_its_own_tenant_with_its_own_key_and_input",),
    ),
    "library/ticks/test_fan_out.py": Conforming(
        quick=("test_a_failed_tenant_stops_no_other_and_a_second_run_does_only_that_one",),
    ),
    "saas/jobs/test_imports.py": Conforming(
        quick=(
            "test_a_contact_that_is_there_is_changed_and_keeps_what_the_file_leaves_empty",
            "test_each_row_becomes_a_contact_by_either_way_of_writing",
        ),
    ),
    "system/faults/test_kill_import.py": Conforming(quick=()),
}


def modes_of(metafunc: pytest.Metafunc) -> Sequence[Mode] | None:
    """Returns the modes in which a test runs; None: its module is not in the table."""
    path = metafunc.definition.path
    conforming = SUITE.get(path.relative_to(HERE).as_posix()) if HERE in path.parents else None
    if conforming is None:
        return None
    wanted = os.environ.get(WANTED)
    if wanted == Mode.SHARED:
        return [Mode.SHARED]
    return conforming.modes_of(metafunc.function.__name__, full=wanted == "full")


if __name__ == "__main__":
    for module in SUITE:
        print(f"tests/{module}")
