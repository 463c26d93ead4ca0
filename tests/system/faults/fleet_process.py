"""message_process.py, with a fault if the environment names one."""

from __future__ import annotations

import os
import runpy

from tests.system.faults.fleet_faults import FAULT, FAULTS

if __name__ == "__main__":
    if fault := os.environ.get(FAULT):
        FAULTS[fault].seed()
    runpy.run_module("tests.system.faults.message_process", run_name="__main__", alter_sys=True)
