"""Where a schedule on the server is not what is declared."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleDescription,
    ScheduleSpec,
)

from temporal_tenancy.core.cron import CronLine
from temporal_tenancy.sdk.stamps import is_stamped


async def differences(
    client: Client, wanted: Schedule, line: CronLine, description: ScheduleDescription
) -> Sequence[str]:
    """What differs, in words; nothing if the schedule is as wanted. A pause is no difference.

    `line` is the one (in UTC) that `wanted` has.
    """
    found = description.schedule
    differs = []
    if not _same_times(line, found.spec):
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
    if not is_stamped(found.action):
        differs.append("stamps")  # changed by a client without the plugin
    return differs


def _same_times(line: CronLine, found: ScheduleSpec) -> bool:
    if len(found.calendars) != 1 or found.intervals or found.skip or found.cron_expressions:
        return False
    narrowed = found.start_at or found.end_at or found.jitter
    in_utc = found.time_zone_name in (None, "", "UTC")
    return not narrowed and in_utc and line.is_calendar(found.calendars[0])


def _content(payload: Any) -> Any:  # as the server keeps it: a Payload of whatever was encoded
    try:
        return json.loads(payload.data)
    except ValueError:
        return payload.data
