"""Places in the application's code, as errors name them: `jobs/evening.py, line 34, in run`."""

from __future__ import annotations

import ast
import linecache
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from pathlib import PurePath
from types import CodeType, FrameType, TracebackType
from typing import Final

_Step = tuple[FrameType, int, int]  # a frame, its line, and its instruction's offset in bytes

_INSTALLED: Final = ("site-packages", "dist-packages")
# "<": importlib's own, and code that was made while the program runs.
_NOT_APPLICATION: Final = (
    "<",
    *(str(PurePath(sysconfig.get_path(name), "_"))[:-1] for name in ("stdlib", "platstdlib")),
)
_OURS: Final = ("temporalio.", "temporal_tenancy.")
_RUNS_WORKFLOWS: Final = "temporalio.worker._workflow_instance"
_INSTRUCTION: Final = 2  # bytes
_PLACE: Final = re.compile(r"\([^\s()]+\.py, line \d+(?:, in \w+)?\)")


@lru_cache(maxsize=4096)  # a session asks with each call
def place(filename: str, line: int, function: str = "") -> str:
    """Returns a place in words; `function` is left out if it is empty or a module's own code."""
    within = f", in {function}" if function and not function.startswith("<") else ""
    return f"{_in_the_application(filename)}, line {line}{within}"


def _in_the_application(filename: str) -> str:
    """Returns a file's path from the folder that it is imported from; no machine's folders."""
    path = PurePath(filename)
    roots = [root for root in map(PurePath, sys.path) if root.parts and path.is_relative_to(root)]
    if not roots:
        return path.name
    return path.relative_to(max(roots, key=lambda root: len(root.parts))).as_posix()


def place_of(error: BaseException) -> str | None:
    """Returns where in the application's code an error was raised; None if nowhere in it."""
    step = _own_step(error)
    return None if step is None else _place(step)


def line_of(error: BaseException) -> tuple[str, int] | None:
    """Returns the file and the line of the application's code that `place_of` names; or None.

    For a mistake in a file's syntax, those of the mistake.
    """
    if isinstance(error, SyntaxError) and _is_own_file(error.filename or "<unknown>"):
        return str(error.filename), error.lineno or 1
    step = _own_step(error)
    return None if step is None else (step[0].f_code.co_filename, step[1])


def is_of_an_import(error: BaseException) -> bool:
    """Whether a file of the application's cannot be imported, and the error says why."""
    if isinstance(error, SyntaxError) and _is_own_file(error.filename or "<unknown>"):
        return True
    return any(
        frame.f_code.co_name == "<module>"
        and frame.f_globals.get("__name__") != "__main__"  # it is run, and imports the others
        and _is_application(frame.f_code, str(frame.f_globals.get("__name__", "")))
        for frame, _, _ in _steps(error.__traceback__)
    )


def place_in_workflow(error: BaseException) -> str | None:
    """Returns as `place_of`, but None for an error that did not pass through workflow code."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    if not any(frame.f_globals.get("__name__") == _RUNS_WORKFLOWS for frame in frames):
        return None
    return place_of(error)


def runs_a_workflow() -> bool:
    """Whether the running call is a part of a workflow task, also before any workflow code runs."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__") == _RUNS_WORKFLOWS:
            return True
        frame = frame.f_back
    return False


def place_of_caller() -> str | None:
    """Returns where in the application's code the running call was made; None if nowhere in it."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if _is_application(frame.f_code, str(frame.f_globals.get("__name__", ""))):
            return place(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)
        frame = frame.f_back
    return None


def expression_of(error: BaseException) -> str | None:
    """Returns what the application's code did as an error was raised, such as `httpx.get`.

    The dotted name that it called or used, or the module that it imported; None if that is not
    known. Arguments are left out.
    """
    step = _own_step(error)
    try:
        return None if step is None else _expression(step)
    except Exception:  # the source is not there, or another one
        return None


def with_place(sentence: str, where: str | None) -> str:
    """Returns a sentence with a place in parentheses at its end, unless it names one already."""
    if where is None or names_place(sentence):
        return sentence
    return f"{sentence} ({where})".lstrip()


def names_place(sentence: str) -> bool:
    """Whether a sentence names a place in code, as `with_place` writes it."""
    return _PLACE.search(sentence) is not None


def _own_step(error: BaseException) -> _Step | None:
    """Returns the innermost step of the application's code.

    For an application that is installed like a library, the outermost of the libraries' steps: the
    inner ones may be those of its own libraries.
    """
    installed: _Step | None = None
    own: _Step | None = None
    for step in _steps(error.__traceback__):
        code, module = step[0].f_code, str(step[0].f_globals.get("__name__", ""))
        if _is_application(code, module):
            own = step
        elif installed is None and _is_installed(code.co_filename) and not module.startswith(_OURS):
            installed = step
    return own or installed


def _steps(entry: TracebackType | None) -> Iterator[_Step]:
    while entry is not None:
        yield entry.tb_frame, entry.tb_lineno, entry.tb_lasti
        entry = entry.tb_next


def _is_application(code: CodeType, module: str) -> bool:
    return _is_own_file(code.co_filename) and not module.startswith(_OURS)


@lru_cache(maxsize=4096)
def _is_own_file(filename: str) -> bool:
    return not filename.startswith(_NOT_APPLICATION) and not _is_installed(filename)


@lru_cache(maxsize=4096)
def _is_installed(filename: str) -> bool:
    return not filename.startswith("<") and any(
        part in _INSTALLED for part in PurePath(filename).parts
    )


def _place(step: _Step) -> str:
    frame, line, _ = step
    return place(frame.f_code.co_filename, line, frame.f_code.co_name)


def _expression(step: _Step) -> str | None:
    frame, _, offset = step
    code = frame.f_code
    first, last, begin, end = next(islice(code.co_positions(), offset // _INSTRUCTION, None))
    if first is None or last is None or begin is None or end is None:
        return None
    lines = [
        linecache.getline(code.co_filename, number, frame.f_globals).encode()
        for number in range(first, last + 1)
    ]
    lines[-1] = lines[-1][:end]  # columns count bytes
    lines[0] = lines[0][begin:]
    return _named(b"".join(lines).decode().strip())


def _named(source: str) -> str | None:
    """Returns what a statement or an expression names; None if it is not a dotted name."""
    if source.startswith(("import ", "from ")):
        statement = ast.parse(source).body[0]
        if isinstance(statement, ast.ImportFrom):
            return statement.module
        return statement.names[0].name if isinstance(statement, ast.Import) else None
    node = ast.parse(f"({source})", mode="eval").body
    while isinstance(node, ast.Await | ast.Call):
        node = node.value if isinstance(node, ast.Await) else node.func
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    return ".".join([node.id, *reversed(parts)])
