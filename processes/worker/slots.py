"""A worker's concurrent tasks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final

from temporalio.worker import (
    FixedSizeSlotSupplier,
    ResourceBasedSlotConfig,
    ResourceBasedSlotSupplier,
    ResourceBasedTunerConfig,
    WorkerTuner,
)

MAX_ACTIVITIES: Final = 100  # concurrently per queue; the SDK's default
WORKFLOW_TASKS: Final = 100  # concurrently per queue; the SDK's default
TARGET_MEMORY: Final = 0.8  # share of the machine's; the SDK recommends no more
TARGET_CPU: Final = 0.9  # share of the machine's
# Slots that exist however busy the machine is: other processes may keep it busy all the time, and
# activities that wait for an answer use no resources.
MINIMUM: Final = 10
# Between two additional slots. The SDK's default of 50 ms limits a queue to 20 activities a second.
RAMP: Final = timedelta(milliseconds=5)


class Slots(StrEnum):
    """What limits a worker's concurrent activities.

    Fixed slots are the default. On a mixed load (benchmarks/processes/worker_slots.py)
    resource-based slots took 1.15 to 1.5 times as long, as activities that only wait are delayed by
    others that compute. Use them for activities so large that a fixed number of them could exhaust
    the machine.
    """

    FIXED = "fixed"  # their number
    RESOURCE = "resource"  # the use of the machine's memory and processors


@dataclass(frozen=True)
class SlotOptions:
    """The command-line options for slots."""

    kind: Slots = Slots.FIXED
    max_activities: int = MAX_ACTIVITIES  # concurrently per queue, for both kinds
    target_memory: float = TARGET_MEMORY  # 0 to 1; for `RESOURCE`
    target_cpu: float = TARGET_CPU  # 0 to 1; for `RESOURCE`

    def tuner(self) -> WorkerTuner:
        """Returns the tuner of one queue's worker.

        Resources limit only activities: workflow tasks take milliseconds, and activities' results
        wait for them.
        """
        most = FixedSizeSlotSupplier(self.max_activities)
        activities: FixedSizeSlotSupplier | ResourceBasedSlotSupplier = most
        if self.kind is Slots.RESOURCE:
            activities = ResourceBasedSlotSupplier(
                ResourceBasedSlotConfig(
                    minimum_slots=min(MINIMUM, self.max_activities),
                    maximum_slots=self.max_activities,
                    ramp_throttle=RAMP,
                ),
                ResourceBasedTunerConfig(self.target_memory, self.target_cpu),
            )
        return WorkerTuner.create_composite(
            workflow_supplier=FixedSizeSlotSupplier(WORKFLOW_TASKS),
            activity_supplier=activities,
            local_activity_supplier=most,
            nexus_supplier=FixedSizeSlotSupplier(1),  # none are served
        )
