"""The mutants of a doctor's probe: faults in whose it is, and in what it finds."""

from __future__ import annotations

from typing import Final

from temporalio.client import Client

from temporal_tenancy.cli import _probe_checks as probe_checks
from temporal_tenancy.outbox import marks
from temporal_tenancy.outbox.probe.evidence import Evidence
from temporal_tenancy.outbox.relay import starting
from tests.mutants.mutant import Mutant, replace

PROBE: Final = "tests/library/outbox/test_probe.py"


def _take_a_tenants_message_for_a_probe() -> None:
    replace(starting, "PLATFORM", "acme")


def _write_letters_of_probes() -> None:
    replace(marks, "PLATFORM", "nobody")


def _ask_nobody_who_was_silent() -> None:
    async def nothing(client: Client, key: str) -> Evidence:
        return Evidence()

    replace(probe_checks, "evidence", nothing)


PROBE_FAULTS: Final = [
    Mutant(
        "probes-of-tenants",
        "a tenant's message may ask for the platform's probe",
        (f"{PROBE}::test_a_tenant_cannot_ask_for_a_probe",),
        seed=_take_a_tenants_message_for_a_probe,
    ),
    Mutant(
        "letters-of-probes",
        "a message of the platform that is refused becomes a dead letter",
        (f"{PROBE}::test_the_platform_can_ask_for_nothing_but_a_probe",),
        seed=_write_letters_of_probes,
    ),
    Mutant(
        "silence-forgotten",
        "a worker that takes a probe and does not answer is not named",
        (
            "tests/system/faults/test_frozen.py"
            "::test_a_stopped_relay_and_a_stopped_worker_are_named",
        ),
        seed=_ask_nobody_who_was_silent,
    ),
]
