"""How many tasks a worker takes at once, and how many polls it holds open for them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final

from temporalio.worker import (
    FixedSizeSlotSupplier,
    PollerBehaviorAutoscaling,
    ResourceBasedSlotConfig,
    ResourceBasedSlotSupplier,
    ResourceBasedTunerConfig,
    WorkerTuner,
)

MAX_ACTIVITIES: Final = 100  # at once, of each queue; the SDK's own default
WORKFLOW_TASKS: Final = 100  # at once, of each queue; the SDK's own default
TARGET_MEMORY: Final = 0.8  # part of the machine's; the SDK advises no more
TARGET_CPU: Final = 0.9  # part of the machine's
# Slots that there are however busy the machine is: other processes may keep it so for ever, and
# activities that wait for an answer use nothing.
MINIMUM: Final = 10
# Between two further slots. The SDK's own 50 ms would be 20 activities a second at most.
RAMP: Final = timedelta(milliseconds=5)

# Not slower than the SDK's five on a mixed load, and an idle worker holds few polls open.
POLLERS: Final = PollerBehaviorAutoscaling()


class Slots(StrEnum):
    """What decides whether another activity is taken.

    Fixed ones are the default. On a mixed load (benchmarks/processes/worker_slots.py) those by
    resources took 1.15 to 1.5 times as long: activities that wait for an answer are held back for
    what others compute. They are for activities so large that a fixed number could fill the
    machine.
    """

    FIXED = "fixed"  # how many there are
    RESOURCE = "resource"  # how much of the machine's memory and processors is in use


@dataclass(frozen=True)
class SlotOptions:
    """What the command line says of slots."""

    kind: Slots = Slots.FIXED
    max_activities: int = MAX_ACTIVITIES  # at once, of each queue, whatever the machine would bear
    target_memory: float = TARGET_MEMORY  # 0 to 1; for `RESOURCE`
    target_cpu: float = TARGET_CPU  # 0 to 1; for `RESOURCE`

    def tuner(self) -> WorkerTuner:
        """The tuner of one queue's worker.

        Only activities are held back: a workflow task takes milliseconds, and many of them are
        what lets an activity's result go on.
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
