"""The operators' commands: `explain`, `ticks`, `dead-letters`, `outbox` and the others.

A program has these commands and those that the application adds:

    program = Program(load=load)  # load() makes the Application
    sys.exit(run(command_line(program), program, sys.argv[1:]))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from temporal_tenancy.core.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from temporal_tenancy.cli._app import command_line, run
    from temporal_tenancy.cli._arguments import input_fields
    from temporal_tenancy.cli._exit_codes import ExitCode
    from temporal_tenancy.cli._following import say_where
    from temporal_tenancy.cli._hints import Hints
    from temporal_tenancy.cli._not_reachable import (
        Advice,
        NotReachable,
        SettingMissing,
        reaching,
    )
    from temporal_tenancy.cli._process_exit import begin_process, exit_process
    from temporal_tenancy.cli._requested_jobs import wait_for_job
    from temporal_tenancy.cli._server_access import (
        Servers,
        control_plane,
        known_tenant,
        servers,
    )
    from temporal_tenancy.cli._stops import why_stopped
    from temporal_tenancy.cli._temporal_config import temporal_config
    from temporal_tenancy.cli._temporal_connection import connect_temporal
    from temporal_tenancy.cli._temporal_variables import TEMPORAL_VARIABLES
    from temporal_tenancy.cli._waiting import warn_without_worker
    from temporal_tenancy.cli.answers import (
        Answer,
        Problem,
        address,
        err,
        facts,
        lines,
        minute,
        perform,
        say,
        sentence,
        table,
        when,
        whole,
    )
    from temporal_tenancy.cli.commands.options import Json, Wait
    from temporal_tenancy.cli.dead_letters import operator
    from temporal_tenancy.cli.program import Application, Login, Program, quoted, use_program

__all__ = [
    "TEMPORAL_VARIABLES",
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
    "SettingMissing",
    "Wait",
    "address",
    "begin_process",
    "command_line",
    "connect_temporal",
    "control_plane",
    "err",
    "exit_process",
    "facts",
    "input_fields",
    "known_tenant",
    "lines",
    "minute",
    "operator",
    "perform",
    "quoted",
    "reaching",
    "run",
    "say",
    "say_where",
    "sentence",
    "servers",
    "table",
    "temporal_config",
    "use_program",
    "wait_for_job",
    "warn_without_worker",
    "when",
    "whole",
    "why_stopped",
]

# Loaded on first access: a caller that needs only the hints loads neither typer nor rich.
_WHERE: Final = {
    "Advice": "_not_reachable",
    "Answer": "answers",
    "Application": "program",
    "ExitCode": "_exit_codes",
    "Hints": "_hints",
    "Json": "commands.options",
    "Login": "program",
    "NotReachable": "_not_reachable",
    "SettingMissing": "_not_reachable",
    "Problem": "answers",
    "Program": "program",
    "Servers": "_server_access",
    "Wait": "commands.options",
    "address": "answers",
    "command_line": "_app",
    "connect_temporal": "_temporal_connection",
    "control_plane": "_server_access",
    "err": "answers",
    "exit_process": "_process_exit",
    "facts": "answers",
    "input_fields": "_arguments",
    "known_tenant": "_server_access",
    "lines": "answers",
    "minute": "answers",
    "begin_process": "_process_exit",
    "operator": "dead_letters",
    "perform": "answers",
    "quoted": "program",
    "reaching": "_not_reachable",
    "run": "_app",
    "say": "answers",
    "say_where": "_following",
    "sentence": "answers",
    "servers": "_server_access",
    "table": "answers",
    "temporal_config": "_temporal_config",
    "TEMPORAL_VARIABLES": "_temporal_variables",
    "use_program": "program",
    "wait_for_job": "_requested_jobs",
    "warn_without_worker": "_waiting",
    "when": "answers",
    "whole": "answers",
    "why_stopped": "_stops",
}

__getattr__, __dir__ = lazy_exports(__name__, _WHERE)
