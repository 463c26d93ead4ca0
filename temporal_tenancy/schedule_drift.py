"""Where a schedule on the server is not what is declared."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from croniter import croniter
from temporalio.client import Client, Schedule, ScheduleActionStartWorkflow, ScheduleDescription

from temporal_tenancy import header


async def differences(
    client: Client, wanted: Schedule, cron: str, description: ScheduleDescription
) -> Sequence[str]:
    """What differs, in words; nothing if the schedule is as wanted. A pause is no difference.

    `cron` is the line (in UTC) that `wanted` has.
    """
    found = description.schedule
    differs = []
    if not (_same_line(cron, found) and _same_times(cron, description.info.next_action_times)):
        differs.append("times")
    if found.policy.overlap != wanted.policy.overlap:
        differs.append("overlap")
    if found.policy.catchup_window != wanted.policy.catchup_window:
        differs.append("catch-up window")
    if not isinstance(found.action, ScheduleActionStartWorkflow):
        return [*differs, "action"]
    assert isinstance(wanted.action, ScheduleActionStartWorkflow)
    differs += [
        what.replace("_", " ")
        for what in ("workflow", "id", "task_queue")
        if getattr(found.action, what) != getattr(wanted.action, what)
    ]
    payloads = await client.data_converter.encode(wanted.action.args)
    if [_content(p) for p in found.action.args] != [_content(p) for p in payloads]:
        differs.append("input")
    if header.read(found.action.headers) is None or not found.action.priority.fairness_key:
        differs.append("stamps")  # changed by a client without the plugin
    return differs


def with_comment(cron: str) -> str:
    """The line with itself as its comment.

    The server keeps a line as calendars of its own, and its comment as it is.
    """
    return f"{cron} # {cron}"


def _same_line(cron: str, found: Schedule) -> bool:
    return [calendar.comment for calendar in found.spec.calendars] == [cron]


def _same_times(cron: str, announced: Sequence[datetime]) -> bool:
    # Calendars may have been changed and the comment left: the next times are compared as well.
    if not announced:
        return False
    first = announced[0]
    clock = croniter(cron, first - timedelta(seconds=1))
    return [clock.get_next(datetime) for _ in announced] == list(announced)


def _content(payload: Any) -> Any:  # as the server keeps it: a Payload of whatever was encoded
    try:
        return json.loads(payload.data)
    except ValueError:
        return payload.data
