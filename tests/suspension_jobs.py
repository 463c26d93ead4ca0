"""Jobs that wait out a suspension, and end at the first failed attempt."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from temporalio import workflow
from temporalio.common import RetryPolicy

from temporal_tenancy.core.inputs import TenantInput
from temporal_tenancy.core.jobs import tenant_job
from tests.suspension_control import (
    Steps,
    hold_a_thread_in_silence,
    step_on,
    step_on_in_a_thread,
)

QUEUE: Final = "default"
ONCE: Final = RetryPolicy(maximum_attempts=1)


class PatientInput(TenantInput):
    heartbeat_seconds: float = 1.0


def effect(job: PatientInput) -> dict[str, Any]:
    return {
        "start_to_close_timeout": timedelta(seconds=60),
        "heartbeat_timeout": timedelta(seconds=job.heartbeat_seconds),
        "retry_policy": ONCE,
    }


@tenant_job("test.patient", queue=QUEUE, waits_out_suspension=True)
class Patient:
    """Steps on."""

    @workflow.run
    async def run(self, job: PatientInput) -> int:
        return await workflow.execute_activity(step_on, Steps(), **effect(job))


@tenant_job("test.patient_thread", queue=QUEUE, waits_out_suspension=True)
class PatientThread:
    """Steps on in a thread."""

    @workflow.run
    async def run(self, job: PatientInput) -> int:
        return await workflow.execute_activity(step_on_in_a_thread, Steps(), **effect(job))


@tenant_job("test.patient_silence", queue=QUEUE, waits_out_suspension=True)
class PatientSilence:
    """Sends no heartbeat, so that nothing can interrupt its thread."""

    @workflow.run
    async def run(self, job: PatientInput) -> int:
        return await workflow.execute_activity(
            hold_a_thread_in_silence,
            Steps(),
            start_to_close_timeout=timedelta(seconds=60),
            retry_policy=ONCE,
        )


@tenant_job("test.patient_feature", queue=QUEUE, feature="reports", waits_out_suspension=True)
class PatientFeature:
    """Needs a feature too."""

    @workflow.run
    async def run(self, job: PatientInput) -> int:
        return await workflow.execute_activity(step_on, Steps(), **effect(job))


@tenant_job("test.patient_local", queue=QUEUE, waits_out_suspension=True)
class PatientLocal:
    """Calls what the server cannot pause."""

    @workflow.run
    async def run(self, job: PatientInput) -> int:
        return await workflow.execute_local_activity(
            step_on, Steps(), start_to_close_timeout=timedelta(seconds=60), retry_policy=ONCE
        )


@tenant_job("test.impatient", queue=QUEUE)
class Impatient:
    """Waits for nobody."""

    @workflow.run
    async def run(self, job: PatientInput) -> int:
        return await workflow.execute_activity(step_on, Steps(), **effect(job))


WORKFLOWS: list[type] = [
    Patient,
    PatientThread,
    PatientSilence,
    PatientFeature,
    PatientLocal,
    Impatient,
]
