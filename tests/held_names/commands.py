"""What scripts call: commands, arguments and options, exit codes, and the types of problems."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from io import StringIO
from typing import Any, Final
from unittest.mock import patch

from typer.main import get_command

from processes.cli import app as starter
from processes.web import command as web
from processes.worker import command as worker
from temporal_tenancy.cli.tenancy import program_and_commands, tenancy
from tests.held_names.code import Module, argument, called, modules

PROGRAMS: Final[dict[str, Callable[[Sequence[str]], int]]] = {
    "worker.py": worker.main,
    "python -m processes.web": web.main,
    "tenancy": tenancy,
}
"""Those of one command."""
OPTION: Final = re.compile(r"^[\s│]+(--[a-z-]+)", re.MULTILINE)
KIND: Final = re.compile(r"[A-Z][a-z]+([A-Z][a-z]+)*")


def each_command() -> Iterator[tuple[str, Any]]:
    """Every command of `starter.py` that does something, by its words, as click has it."""
    yield from _below("starter.py", get_command(starter.app))


def _below(words: str, command: Any) -> Iterator[tuple[str, Any]]:
    inner = getattr(command, "commands", {})
    if not inner:
        yield words, command
    for name, each in inner.items():
        yield from _below(f"{words} {name}", each)


def commands() -> Iterator[str]:
    """A line for each command, argument and option."""
    for words, command in (*each_command(), ("starter.py", get_command(starter.app))):
        if words != "starter.py":
            yield words
        for given in command.params:
            names = [*given.opts, *given.secondary_opts]
            if given.param_type_name == "argument":
                names = [str(given.metavar or given.name).strip("[]").upper()]
            yield from (f"{words} {name}" for name in names)
    starters = {words.removeprefix("starter.py ") for words, _ in each_command()}
    for words, command in _below("tenancy", get_command(program_and_commands()[1])):
        if words.removeprefix("tenancy ") not in starters:
            yield words
            yield from (f"{words} {name}" for given in command.params for name in given.opts)
    for words, main in PROGRAMS.items():
        yield words
        shown = StringIO()
        with redirect_stdout(shown), patch.dict("os.environ", COLUMNS="200"):
            main(["--help"])
        yield from (f"{words} {name}" for name in OPTION.findall(shown.getvalue()))


def exit_codes() -> Iterator[str]:
    """Those of all programs."""
    yield "exit code 0"
    for module in modules():
        yield from (
            f"exit code {code}" for code in map(int, vars(module.there).get("ExitCode", ()))
        )
        if module in command_line() and module.name.endswith(".failures"):
            for name, value in vars(module.there).items():
                if name.isupper() and isinstance(value, int):
                    yield f"exit code {value}"


def problems() -> Iterator[str]:
    """The types of problems that a command answers and that are no exceptions."""
    for module in command_line():
        for node in ast.walk(module.tree):
            kind: Any = None
            if isinstance(node, ast.Call) and called(node) == "Problem":
                kind = module.value(argument(node, 0, "type"))
            if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
                _, kind, *_ = map(module.value, [*node.value.elts, *[None] * 2])
            if isinstance(kind, str) and KIND.fullmatch(kind):
                yield f"problem {kind}"


def command_line() -> Iterator[Module]:
    """The modules of the command line."""
    return (module for module in modules() if "cli" in module.name.split("."))


def function_of(command: Any) -> Any:
    """The function that a command of click's calls."""
    return inspect.unwrap(command.callback)
