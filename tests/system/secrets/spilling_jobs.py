"""Jobs whose errors quote what they had in hand: an input, a row, a credential, a URL."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

from pydantic import BaseModel
from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError

from saas.services.secrets import current_secrets
from temporal_tenancy import Coalesce, TenantInput, tenant_activity, tenant_job, tenant_session

ROW_FILE = "SPILLED_ROW"  # names a file: a row that no input has
CREDENTIAL = "integrations.spilled"
SOON = timedelta(seconds=30)
ONCE = RetryPolicy(maximum_attempts=1)


class Spill(TenantInput):
    """What the job's error is to quote, and in which way."""

    way: str
    text: str


class Count(BaseModel):
    """A model that the text does not fit."""

    count: int


def _value(given: str) -> NoReturn:
    raise ValueError(f"{int(given)} is a number")  # int() quotes it


def _key(given: str) -> NoReturn:
    known: dict[str, str] = {}
    raise RuntimeError(known[given])  # quotes it


def _cause(given: str) -> NoReturn:
    try:
        _key(given)
    except KeyError as error:
        raise RuntimeError("cannot look it up") from error


def _group(given: str) -> NoReturn:
    raise ExceptionGroup("several", [ValueError(given), KeyError(given)])


def _model(given: str) -> NoReturn:
    raise RuntimeError(Count.model_validate({"count": given}))


def _note(given: str) -> NoReturn:
    error = RuntimeError("has a note")
    error.add_note(given)
    raise error


def _credential(given: str) -> NoReturn:
    raise RuntimeError(f"the partner refused {current_secrets().get(CREDENTIAL)}")


def _told_credential(given: str) -> NoReturn:
    raise ApplicationError(f"the partner refused {current_secrets().get(CREDENTIAL)}")


def _url(given: str) -> NoReturn:
    raise ConnectionError(f"cannot reach postgresql://app:{given}@db.example/app")


def _header(given: str) -> NoReturn:
    raise ApplicationError(f"the partner refused Authorization: Bearer {given}", type="Refused")


def _row(given: str) -> NoReturn:
    raise ValueError(f"the row is wrong: {Path(os.environ[ROW_FILE]).read_text()}")


def _driver(given: str) -> NoReturn:
    import psycopg  # here, since the sandbox imports this module for each run

    raise psycopg.errors.UniqueViolation(f"duplicate key\nDETAIL:  Key (email)=({given}) exists.")


WAYS: dict[str, Callable[[str], NoReturn]] = {
    "value": _value,
    "key": _key,
    "cause": _cause,
    "group": _group,
    "model": _model,
    "note": _note,
    "credential": _credential,
    "told_credential": _told_credential,
    "url": _url,
    "header": _header,
    "row": _row,
    "driver": _driver,
}
"""The ways of an activity; `sql` and `sql_row` are asynchronous, `workflow` is the run's own."""


@tenant_activity
async def spill(job: Spill) -> None:
    """Fails in the given way."""
    if job.way in WAYS:
        WAYS[job.way](job.text)
    from sqlalchemy import text

    async with tenant_session() as session:
        if job.way == "sql":
            query = text("select cast(cast(:given as text) as integer)")
            await session.execute(query, {"given": job.text})
        insert = text(
            "insert into contacts (tenant_id, id, email) values (:tenant, uuidv7(), :email)"
        )
        for _ in range(2):
            await session.execute(insert, {"tenant": job.tenant_id, "email": job.text})


@tenant_activity
def spill_in_a_thread(job: Spill) -> None:
    """Fails in the given way, in a thread."""
    WAYS[job.way](job.text)


@tenant_activity
async def spill_together(job: Spill) -> None:
    """Fails for one of several messages."""
    WAYS[job.way](job.text)


@tenant_job("test.spill", queue="default")
class SpillJob:
    """Fails in an activity, or by itself."""

    @workflow.run
    async def run(self, job: Spill) -> None:
        """Fails."""
        if job.way == "workflow":
            raise KeyError(job.text)  # a bug: the task fails, and the run stays open
        await workflow.execute_activity(spill, job, start_to_close_timeout=SOON, retry_policy=ONCE)


@tenant_job("test.spill_in_a_thread", queue="default")
class SpillInAThread:
    """Fails in an activity that runs in a thread."""

    @workflow.run
    async def run(self, job: Spill) -> None:
        """Fails."""
        await workflow.execute_activity(
            spill_in_a_thread, job, start_to_close_timeout=SOON, retry_policy=ONCE
        )


@tenant_job("test.spill_together", queue="default", coalesce=Coalesce(10, spill_together))
class SpillTogether:
    """Fails for each of several messages that share a workflow."""

    @workflow.run
    async def run(self, job: Spill) -> None:
        """Fails."""
        await workflow.execute_activity(spill, job, start_to_close_timeout=SOON, retry_policy=ONCE)


class SpillMonth(TenantInput):
    """What a fan-out asks for."""


@tenant_activity
async def spill_for_a_tick(job: SpillMonth) -> None:
    """Fails with a credential in the error."""
    _credential("")


@tenant_job("test.spill_month", queue="default")
class SpillMonthJob:
    """Fails for each tenant of a fan-out."""

    @workflow.run
    async def run(self, job: SpillMonth) -> None:
        """Fails."""
        await workflow.execute_activity(
            spill_for_a_tick, job, start_to_close_timeout=SOON, retry_policy=ONCE
        )


WORKFLOWS: list[type] = [SpillJob, SpillInAThread, SpillTogether, SpillMonthJob]
ACTIVITIES: list[Callable[..., Any]] = [spill, spill_in_a_thread, spill_together, spill_for_a_tick]
