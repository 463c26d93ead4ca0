"""What workflow code may not do, and what to do instead, in place of the sandbox's own words."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import PurePath
from typing import Final

from temporalio.worker.workflow_sandbox import RestrictedWorkflowAccessError

from temporal_tenancy.core.errors import NotDeterministic

# By the beginning of the restricted name: what to use in workflow code.
_INSTEAD: Final = {
    "datetime.date": "workflow.now()",
    "datetime.datetime": "workflow.now()",
    "time.sleep": "await workflow.sleep(...)",
    "time.": "workflow.time()",
    "random.": "workflow.random()",
    "uuid.": "workflow.uuid4()",
}
_LIBRARIES: Final = tuple({sysconfig.get_path("stdlib"), sysconfig.get_path("purelib")})
# The methods of an event loop that the SDK's loop does not have are asyncio's, which raise this.
_LOOP: Final = ("asyncio", "events.py")


def refusal(error: BaseException) -> NotDeterministic | None:
    """Returns what to tell about an error that means: this is not for workflow code. Or None."""
    if isinstance(error, RestrictedWorkflowAccessError):
        name = error.qualified_name.removesuffix(".__call__").removesuffix(".__init__")
        name = name.removeprefix("__builtins__.")
        for begins, instead in _INSTEAD.items():
            if name.startswith(begins):
                return NotDeterministic(
                    f"workflow code calls {name}(){_place(error)}, which gives another result when "
                    f"the code is replayed. Use {instead}, or do it in an activity."
                )
        return NotDeterministic(
            f"workflow code uses {name}{_place(error)}, which reaches outside the workflow. Do it "
            "in an activity: use an activity for files, HTTP, databases and other processes."
        )
    if isinstance(error, NotImplementedError):
        frames = traceback.extract_tb(error.__traceback__)
        if frames and PurePath(frames[-1].filename).parts[-2:] == _LOOP:
            return NotDeterministic(
                f"workflow code does input or output{_place(error)}. Do it in an activity: use an "
                "activity for HTTP, databases and other processes."
            )
    return None


def _place(error: BaseException) -> str:
    """Returns where in the application's code it happened: ` (jobs.py, line 12)`."""
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        filename = frame.f_code.co_filename
        module = frame.f_globals.get("__name__", "")
        if filename.startswith(_LIBRARIES) or module.startswith(
            ("temporalio.", "temporal_tenancy.")
        ):
            continue
        return f" ({PurePath(filename).name}, line {line})"
    return ""
