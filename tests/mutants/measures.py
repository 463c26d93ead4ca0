"""The mutants of what is measured: faults in who can distort it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from temporal_tenancy.metering import _table as table
from temporal_tenancy.metrics import _outbox_gauges, catalogue
from temporal_tenancy.metrics import _store as stores
from temporal_tenancy.postgres.database import Database
from temporal_tenancy.tracing import _process as tracing
from tests.mutants.mutant import Mutant, replace


def _let_the_first_tenant_use_all_rows() -> None:
    shares = _outbox_gauges._in_shares

    async def first(session: Any, statement: Any, tenants: Sequence[str], *values: Any) -> Any:
        return await shares(session, statement, tenants[:1], *values)

    replace(_outbox_gauges, "_in_shares", first)


def _name_any_job() -> None:
    replace(stores, "_RUN_HERE", frozenset(catalogue.CATALOGUE))


def _forget_what_was_committed() -> None:
    async def no(database: Database, transaction: int) -> bool:
        return False

    replace(table, "is_committed", no)


def _sample_what_rows_say() -> None:
    context = tracing._context

    def told(traceparent: str, sampler: Any, name: str) -> Any:
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON

        return context(traceparent, ALWAYS_ON, name)

    replace(tracing, "_context", told)
    from tests.library.tracing import test_sampling

    replace(test_sampling, "_context", told)


METRICS: Final = "tests/library/metrics"
MEASURES: Final = [
    Mutant(
        "rows-of-the-first",
        "the rows of one tenant hide those of all others from the gauges",
        (f"{METRICS}/test_collecting.py::test_no_tenants_rows_hide_those_of_another",),
        seed=_let_the_first_tenant_use_all_rows,
    ),
    Mutant(
        "jobs-of-rows",
        "a job that a tenant has made up becomes the value of a label",
        (
            f"{METRICS}/test_bounded_series.py"
            "::test_a_job_that_a_row_names_has_a_series_only_if_this_process_knows_it",
        ),
        seed=_name_any_job,
    ),
    Mutant(
        "flush-doubled",
        "a flush that was committed is written again",
        (
            "tests/library/metering/test_metering.py"
            "::test_what_was_written_before_the_connection_was_lost_is_not_written_again",
        ),
        seed=_forget_what_was_committed,
    ),
    Mutant(
        "flags-of-rows",
        "a row's flag turns sampling on",
        ("tests/library/tracing/test_sampling.py",),
        seed=_sample_what_rows_say,
    ),
]
