"""What an application declares and its worker cannot run is told when the worker starts."""

from __future__ import annotations

import subprocess
import sys

from processes.worker.serve import Options, unlisted_jobs
from processes.worker.slots import SlotOptions
from saas.queues import Queue
from tests.fixtures.worker_process import ROOT
from workflows import WORKFLOWS
from workflows.billing import BillingCycle

WRONG = """
import runpy, sys, types
from temporal_tenancy import ConfigurationError
def wrong(name):
    raise ConfigurationError("the queue of the job a.b must be a text.")
command = types.ModuleType("processes.worker.command")
command.__getattr__ = wrong
sys.modules[command.__name__] = command
runpy.run_path("worker.py", run_name="__main__")
"""


def options(queue: str, workflows: list[type]) -> Options:
    return Options([queue], "test", SlotOptions(), "127.0.0.1", 0, workflows=workflows)


def test_a_job_on_a_workers_queue_that_it_does_not_list_is_found() -> None:
    def of_the_application(found: list[str]) -> list[str]:
        return [name for name in found if name == "billing.cycle"]

    queue = str(Queue.BULK)
    listed = [job.name for job in unlisted_jobs(options(queue, list(WORKFLOWS)))]
    assert of_the_application(listed) == []
    lacking = [cls for cls in WORKFLOWS if cls is not BillingCycle]
    assert of_the_application([j.name for j in unlisted_jobs(options(queue, lacking))]) == [
        "billing.cycle"
    ]
    critical = [job.name for job in unlisted_jobs(options(str(Queue.CRITICAL), lacking))]
    assert of_the_application(critical) == []


def test_a_wrong_declaration_ends_the_worker_with_one_sentence() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", WRONG], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert ended.stderr == "ConfigurationError: the queue of the job a.b must be a text.\n"
