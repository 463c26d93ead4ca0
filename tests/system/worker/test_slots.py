"""The slots that the options of the command line set."""

from __future__ import annotations

from temporalio.worker import FixedSizeSlotSupplier, ResourceBasedSlotSupplier

from processes.worker.slots import SlotOptions, Slots


def test_fixed_slots_are_as_many_as_were_asked_for() -> None:
    tuner = SlotOptions(Slots.FIXED, max_activities=7).tuner()
    assert tuner._get_activity_task_slot_supplier() == FixedSizeSlotSupplier(7)
    assert tuner._get_local_activity_task_slot_supplier() == FixedSizeSlotSupplier(7)


def test_slots_by_resources_look_at_the_targets_and_end_at_the_same_number() -> None:
    options = SlotOptions(Slots.RESOURCE, max_activities=7, target_memory=0.5, target_cpu=0.6)
    supplier = options.tuner()._get_activity_task_slot_supplier()
    assert isinstance(supplier, ResourceBasedSlotSupplier)
    assert supplier.slot_config.maximum_slots == 7
    assert supplier.tuner_config.target_memory_usage == 0.5
    assert supplier.tuner_config.target_cpu_usage == 0.6
