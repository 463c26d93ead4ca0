"""What workflow code may not do, and what to do instead, in place of the sandbox's own words."""

from __future__ import annotations

import traceback
from pathlib import PurePath
from typing import Final

from temporalio.worker.workflow_sandbox import RestrictedWorkflowAccessError

from temporal_tenancy.core.errors import ConfigurationError, NotDeterministic
from temporal_tenancy.core.places import expression_of, place_of
from temporal_tenancy.core.redaction import with_causes

# By the beginning of the restricted name: what to use in workflow code.
_INSTEAD: Final = {
    "datetime.date": "workflow.now()",
    "datetime.datetime": "workflow.now()",
    "time.sleep": "await workflow.sleep(...)",
    "time.": "workflow.time()",
    "random.": "workflow.random()",
    "uuid.": "workflow.uuid4()",
}
# The methods of an event loop that the SDK's loop does not have are asyncio's, which raise this.
_LOOP: Final = ("asyncio", "events.py")
_SPECIAL: Final = (".__call__", ".__init__", ".__mro_entries__")


def refusal(error: BaseException) -> NotDeterministic | None:
    """Returns what to tell about an error that means: this is not for workflow code. Or None."""
    if isinstance(error, RestrictedWorkflowAccessError):
        name = _restricted(error)
        what, through = _what(error, name)
        for begins, instead in _INSTEAD.items():
            if name.startswith(begins):
                return NotDeterministic(
                    f"workflow code calls {name}(){through}{_place(error)}, which gives another "
                    f"result when the code is replayed. Use {instead}, or do it in an activity."
                )
        uses = f" through {name}" if what != name else ""
        return NotDeterministic(
            f"workflow code uses {what}{_place(error)}, which reaches outside the workflow{uses}. "
            "Use an activity for files, HTTP, databases and other processes."
        )
    if isinstance(error, NotImplementedError):
        frames = traceback.extract_tb(error.__traceback__)
        if frames and PurePath(frames[-1].filename).parts[-2:] == _LOOP:
            called = expression_of(error)
            return NotDeterministic(
                f"workflow code does input or output{f' with {called}' if called else ''}"
                f"{_place(error)}. Use an activity for HTTP, databases and "
                "other processes."
            )
    return None


def refused_import(error: BaseException) -> ConfigurationError | None:
    """Returns what to tell about a module that workflow code imports and may not; None for others.

    Args:
        error: of the sandbox, as it loaded the workflow's module.
    """
    for each in with_causes(error):
        if isinstance(each, RestrictedWorkflowAccessError):
            name = _restricted(each)
            what, _ = _what(each, name)
            uses = f", which uses {name}" if what != name else ""
            verb = "imports" if uses else "uses"
            return ConfigurationError(
                f"the module of a workflow {verb} {what}{_place(each)}{uses} and reaches outside "
                "the workflow. Use it in an activity, in another module, and let the workflow's "
                "import that one: inside `with workflow.unsafe.imports_passed_through():`, or by "
                "TenancyPlugin(passthrough=[...])."
            )
    return None


def _restricted(error: RestrictedWorkflowAccessError) -> str:
    name = error.qualified_name
    for special in _SPECIAL:
        name = name.removesuffix(special)
    return name.removeprefix("__builtins__.")


def _what(error: BaseException, name: str) -> tuple[str, str]:
    """Returns what the author's code names, and by what call it reaches `name` if that differs."""
    called = expression_of(error)
    if called is None or called.rpartition(".")[2] == name.rpartition(".")[2]:
        return name, ""
    return called, f" through {called}"


def _place(error: BaseException) -> str:
    """Returns where in the application's code it happened: ` (jobs.py, line 12, in run)`."""
    where = place_of(error)
    return "" if where is None else f" ({where})"
