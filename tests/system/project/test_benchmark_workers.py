"""Every worker of the benchmarks can be made: nothing else in the suite would notice."""

from __future__ import annotations

import subprocess
import sys

from dev.devstack.temporal_part import TemporalPart


def test_every_worker_of_a_benchmark_can_be_made(temporal: TemporalPart) -> None:
    program = [sys.executable, "-m", "tests.system.project.benchmark_workers", temporal.address]
    ran = subprocess.run(program, capture_output=True, text=True, check=False, timeout=100)
    assert ran.returncode == 0, ran.stderr
    made = ran.stdout.splitlines()
    assert len(made) > 10
    assert [line for line in made if not line.endswith(" made")] == []
