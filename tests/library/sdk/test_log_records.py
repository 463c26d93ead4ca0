"""What a host with its own log format finds in the records."""

from __future__ import annotations

import logging

import pytest
from temporalio import workflow
from temporalio.client import Client
from temporalio.worker import (
    Interceptor,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)

from temporal_tenancy.core.scope import PlatformScope, Scope, TenantScope, enter
from temporal_tenancy.sdk.logs import JobContext
from tests.fixtures.jobs.noisy_jobs import Noisy, NoisyInput
from tests.fixtures.temporal import make_worker


@pytest.mark.parametrize(
    ("scope", "fields"),
    [
        (TenantScope("acme"), {"tenant_id": "acme"}),
        (PlatformScope("cleans up"), {"scope": "platform", "reason": "cleans up"}),
    ],
)
def test_a_record_says_whose_it_is_and_who_worked_on_it(
    scope: Scope, fields: dict[str, str]
) -> None:
    record = logging.makeLogRecord({"msg": "event.done"})
    with enter(scope):
        assert JobContext("worker-1").filter(record)
    assert vars(record).items() >= {**fields, "worker": "worker-1"}.items()


def test_what_is_known_wins_over_what_a_line_claims() -> None:
    record = logging.makeLogRecord({"msg": "event.done", "tenant_id": "globex"})
    with enter(TenantScope("acme")):
        JobContext().filter(record)
    assert vars(record)["tenant_id"] == "acme"


def test_why_a_line_is_written_wins_over_why_the_platforms_scope_was_entered() -> None:
    record = logging.makeLogRecord({"msg": "release.halted", "reason": "5 of 5 runs failed."})
    with enter(PlatformScope("compares releases")):
        JobContext().filter(record)
    assert vars(record).items() >= {"scope": "platform", "reason": "5 of 5 runs failed."}.items()


def test_a_line_about_a_run_has_the_runs_tenant() -> None:
    record = logging.makeLogRecord({"msg": "event.done", "job_id": "acme/mail.send/1"})
    JobContext().filter(record)
    assert vars(record).items() >= {"tenant_id": "acme", "job": "mail.send"}.items()


def test_a_line_in_a_run_that_is_not_set_up_yet_has_no_job_and_raises_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Unready:
        def workflow_info(self) -> None:
            raise AttributeError("'_WorkflowInstanceImpl' object has no attribute '_outbound'")

    monkeypatch.setattr(workflow._Runtime, "maybe_current", staticmethod(Unready))
    monkeypatch.setattr(workflow._Runtime, "current", staticmethod(Unready))
    record = logging.makeLogRecord({"msg": "module.imported"})
    assert JobContext("worker-1").filter(record)
    assert "job_id" not in vars(record)


class _LinesAsItBegins(WorkflowInboundInterceptor):
    """A host's interceptor that logs before the run can be asked what it is."""

    def init(self, outbound: WorkflowOutboundInterceptor) -> None:
        logging.getLogger("tests.noisy").warning("noisy.begins")
        super().init(outbound)


class _Lines(Interceptor):
    def workflow_interceptor_class(
        self, input: WorkflowInterceptorClassInput
    ) -> type[WorkflowInboundInterceptor]:
        return _LinesAsItBegins


async def test_a_line_while_a_runs_module_is_imported_or_it_begins_stops_nothing(
    client: Client, queue: str
) -> None:
    raised: list[BaseException] = []

    class Host(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            try:
                JobContext().filter(record)
            except BaseException as error:
                raised.append(error)
            seen.append(record.getMessage())

    seen: list[str] = []
    logger, host = logging.getLogger("tests.noisy"), Host()
    logger.addHandler(host)
    try:
        async with make_worker(
            client, queue, workflows=[Noisy], activities=[], interceptors=[_Lines()]
        ):
            result = await client.execute_workflow(
                Noisy.run,
                NoisyInput(tenant_id="acme"),
                id=f"acme/noisy.load/{queue}",
                task_queue=queue,
            )
    finally:
        logger.removeHandler(host)
    assert result == "acme"
    assert {"noisy.imported", "noisy.begins"} <= set(seen)
    assert raised == []
