"""The operators' commands: `explain`, `ticks`, `dead-letters`, `outbox` and the others.

A program is these commands, and beside them whatever the application adds:

    program = Program(load=load)  # load() makes the Application
    sys.exit(run(command_line(program), program, sys.argv[1:]))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from temporal_tenancy.core.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from temporal_tenancy.cli.answers import (
        Answer,
        Problem,
        address,
        err,
        facts,
        lines,
        perform,
        table,
        when,
    )
    from temporal_tenancy.cli.app import command_line, run
    from temporal_tenancy.cli.commands.options import Json, Wait
    from temporal_tenancy.cli.dead_letters import operator
    from temporal_tenancy.cli.exit_codes import ExitCode
    from temporal_tenancy.cli.hints import Hints
    from temporal_tenancy.cli.not_reachable import (
        Advice,
        NotReachable,
        reaching,
    )
    from temporal_tenancy.cli.program import Application, Login, Program, use_program
    from temporal_tenancy.cli.server_access import Servers, control_plane, servers
    from temporal_tenancy.cli.stops import why_stopped
    from temporal_tenancy.cli.waiting import warn_without_worker

__all__ = [
    "Advice",
    "Answer",
    "Application",
    "ExitCode",
    "Hints",
    "Json",
    "Login",
    "NotReachable",
    "Problem",
    "Program",
    "Servers",
    "Wait",
    "address",
    "command_line",
    "control_plane",
    "err",
    "facts",
    "lines",
    "operator",
    "perform",
    "reaching",
    "run",
    "servers",
    "table",
    "use_program",
    "warn_without_worker",
    "when",
    "why_stopped",
]

# Loaded when they are asked for: whoever asks for a hint needs neither typer nor rich.
_WHERE: Final = {
    "Advice": "not_reachable",
    "Answer": "answers",
    "Application": "program",
    "ExitCode": "exit_codes",
    "Hints": "hints",
    "Json": "commands.options",
    "Login": "program",
    "NotReachable": "not_reachable",
    "Problem": "answers",
    "Program": "program",
    "Servers": "server_access",
    "Wait": "commands.options",
    "address": "answers",
    "command_line": "app",
    "control_plane": "server_access",
    "err": "answers",
    "facts": "answers",
    "lines": "answers",
    "operator": "dead_letters",
    "perform": "answers",
    "reaching": "not_reachable",
    "run": "app",
    "servers": "server_access",
    "table": "answers",
    "use_program": "program",
    "warn_without_worker": "waiting",
    "when": "answers",
    "why_stopped": "stops",
}

__getattr__, __dir__ = lazy_exports(__name__, _WHERE)
