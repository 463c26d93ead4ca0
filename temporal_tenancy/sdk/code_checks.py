"""Mistakes that the source of workflows and activities shows before any of it runs.

Only what is certain is an error. Calls through variables, in other modules' helpers, or in code
whose source is not at hand are not seen.
"""

from __future__ import annotations

import ast
import builtins
import gc
import inspect
import sys
import textwrap
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import Any, Final
from weakref import WeakKeyDictionary

from temporalio import workflow

from temporal_tenancy.core.activities import mark_of
from temporal_tenancy.core.errors import ConfigurationError
from temporal_tenancy.core.places import place
from temporal_tenancy.sdk.private_names import activity_name

_REMOTE: Final = (
    workflow.execute_activity,
    workflow.start_activity,
    workflow.execute_activity_method,
    workflow.start_activity_method,
    workflow.execute_activity_class,
    workflow.start_activity_class,
)
_LOCAL: Final = (
    workflow.execute_local_activity,
    workflow.start_local_activity,
    workflow.execute_local_activity_method,
    workflow.start_local_activity_method,
    workflow.execute_local_activity_class,
    workflow.start_local_activity_class,
)
# An activity needs one of them; those of the SDK's methods are keywords only.
_TIMEOUTS: Final = frozenset({"start_to_close_timeout", "schedule_to_close_timeout"})
# Functions whose result is a session, and the session's methods that must be awaited.
_SESSIONS: Final = frozenset({"tenant_session", "platform_session"})
_OF_SESSIONS: Final = frozenset(
    {
        *("commit", "delete", "execute", "flush", "get", "get_one", "merge", "refresh"),
        *("rollback", "scalar", "scalars", "stream", "stream_scalars"),
    }
)


# Clients of a server that all tenants share, whose keys the caller makes.
_RAW_CLIENTS: Final = frozenset({"aioredis", "coredis", "redis", "valkey"})


@dataclass(frozen=True)
class ActivityCall:
    """A call of an activity in the source of a workflow."""

    name: str
    place: str  # file, line and function
    is_local: bool
    has_queue: bool  # names a task queue, which another worker may serve


@dataclass(frozen=True)
class _Findings:
    calls: tuple[ActivityCall, ...]
    mistakes: tuple[str, ...]


_found: Final[WeakKeyDictionary[Any, _Findings]] = WeakKeyDictionary()


def check_workflow(cls: type, served: Collection[str | None], *, is_remote: bool) -> None:
    """Checks the source of a workflow.

    Args:
        cls: the workflow's class.
        served: the names of the worker's activities; None among them is a dynamic activity, which
            takes any name.
        is_remote: whether the worker polls for activities.

    Raises:
        ConfigurationError: an `await` is missing, or the workflow calls an activity that its own
            worker would be given and does not have.
    """
    findings = _findings(cls)
    for mistake in findings.mistakes:
        raise ConfigurationError(mistake)
    if None in served:
        return
    for call in findings.calls:
        if call.name in served or (not call.is_local and (call.has_queue or not is_remote)):
            continue
        elsewhere = "" if call.is_local else ", or call it with the task_queue of another worker"
        raise ConfigurationError(
            f"{cls.__qualname__} calls the activity {call.name} ({call.place}), which this worker "
            f"does not have. Add it to the worker's activities=[...]{elsewhere}."
        )


def activities_called(cls: type) -> set[str]:
    """Returns the activities that the source of a workflow calls on its own task queue, by name.

    Local activities, and calls that name a task queue, are left out.
    """
    return {call.name for call in _findings(cls).calls if not (call.is_local or call.has_queue)}


def check_activity(function: Callable[..., Any]) -> None:
    """Checks the source of an activity; raises `ConfigurationError` for a missing `await`."""
    for mistake in _findings(function).mistakes:
        raise ConfigurationError(mistake)


def _findings(target: Any) -> _Findings:  # a class or a function
    target = inspect.unwrap(target)
    try:
        found = _found.get(target)
    except TypeError:  # an object that holds no weak references, such as a bound method
        return _read(target)
    if found is None:
        found = _found[target] = _read(target)
    return found


def _read(target: Any) -> _Findings:
    calls: list[ActivityCall] = []
    mistakes: list[str] = []
    is_platforms = _is_platforms(target)
    waiting = [target, *(base for base in getattr(target, "__mro__", ())[1:])]
    seen: set[int] = set()
    while waiting:
        each = waiting.pop()
        if id(each) in seen or getattr(each, "__module__", None) != target.__module__:
            continue
        seen.add(id(each))
        source = _Source.of(each)
        if source is not None:
            calls += source.calls()
            mistakes += source.mistakes()
            if not is_platforms:
                mistakes += source.raw_clients()
            waiting += source.helpers()
    return _Findings(tuple(calls), tuple(mistakes))


class _Source:
    """The syntax tree of a class or function, and what its names stand for."""

    def __init__(self, target: Any, tree: ast.AST, file: str, first_line: int) -> None:
        self.target = target
        self.tree = tree
        self.file = file
        self.first_line = first_line
        self.names = dict(_names_of(target))

    @classmethod
    def of(cls, target: Any) -> _Source | None:
        """Returns the source of a class or function; None if it is not at hand."""
        try:
            lines, first = inspect.getsourcelines(target)
            tree = _parse(textwrap.dedent("".join(lines)))
            file = inspect.getsourcefile(target) or "?"
        except (OSError, TypeError, SyntaxError, ValueError):
            return None
        return cls(target, tree, file, first)

    def place(self, node: ast.expr | ast.stmt) -> str:
        functions = [
            each
            for each in ast.walk(self.tree)
            if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
            and each.lineno <= node.lineno <= (each.end_lineno or each.lineno)
        ]
        innermost = max(functions, key=lambda each: each.lineno, default=None)
        within = "" if innermost is None else innermost.name
        return place(self.file, self.first_line + node.lineno - 1, within)

    def resolve(self, node: ast.expr) -> Any:
        """Returns what an expression of names stands for; None if that depends on the run."""
        if isinstance(node, ast.Name):
            if node.id == "self" and isinstance(self.target, type):
                return self.target
            return self.names.get(node.id, getattr(builtins, node.id, None))
        if isinstance(node, ast.Attribute):
            owner = self.resolve(node.value)
            if isinstance(owner, ModuleType | type):
                return (
                    inspect.getattr_static(owner, node.attr, None)
                    if (isinstance(owner, type))
                    else getattr(owner, node.attr, None)
                )
        return None

    def calls(self) -> Iterator[ActivityCall]:
        for node in ast.walk(self.tree):
            if not isinstance(node, ast.Call):
                continue
            function = self.resolve(node.func)
            if function not in _REMOTE and function not in _LOCAL:
                continue
            keywords = {keyword.arg: keyword.value for keyword in node.keywords}
            given = node.args[0] if node.args else keywords.get("activity")
            if given is None or isinstance(given, ast.Starred):
                continue
            name = (
                given.value
                if isinstance(given, ast.Constant)
                else activity_name(self.resolve(given))
            )
            if isinstance(name, str):
                queue = None in keywords or "task_queue" in keywords
                yield ActivityCall(name, self.place(node), function in _LOCAL, queue)

    def mistakes(self) -> Iterator[str]:
        yield from self._without_timeout()
        for function in ast.walk(self.tree):
            if not isinstance(function, ast.AsyncFunctionDef):
                continue
            sessions, local = set(_sessions(function)), set(_local_names(function))
            for statement in _own_statements(function):
                call = statement.value if isinstance(statement, ast.Expr) else None
                if isinstance(call, ast.Call) and self._is_lost(call.func, sessions, local):
                    yield (
                        f"{ast.unparse(call.func)}(...) ({self.place(call)}) is not awaited, so it "
                        "does nothing. Write await in front of it."
                    )

    def _without_timeout(self) -> Iterator[str]:
        """Yields a sentence for each call of an activity that the SDK refuses when it is made."""
        for node in ast.walk(self.tree):
            if not isinstance(node, ast.Call):
                continue
            function = self.resolve(node.func)
            keywords = {keyword.arg for keyword in node.keywords}
            if (
                (function in _REMOTE or function in _LOCAL)
                and None not in keywords  # **options may have it
                and not keywords & _TIMEOUTS
            ):
                yield (
                    f"{ast.unparse(node.func)}(...) ({self.place(node)}) has no timeout, so the "
                    "run would fail there. Add start_to_close_timeout=timedelta(...)."
                )

    def raw_clients(self) -> Iterator[str]:
        """Yields a sentence for each use of a client whose keys nothing gives a tenant."""
        for node in ast.walk(self.tree):
            found: set[str] = set()
            if isinstance(node, ast.Import):
                found = {each.name.partition(".")[0] for each in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found = {(node.module or "").partition(".")[0]}
            elif isinstance(node, ast.Call):
                found = {package for each in _owners(node.func) for package in self._packages(each)}
            if isinstance(node, ast.stmt | ast.expr) and (raw := found & _RAW_CLIENTS):
                yield (
                    f"{self.place(node)} uses {min(raw)} itself, whose keys name no tenant. Use "
                    "tenant_cache, tenant_lock or tenant_rate_limit of "
                    "temporal_tenancy.shared_state."
                )

    def _packages(self, node: ast.expr) -> Iterator[str]:
        """Yields the packages that an expression's value and its type come from."""
        value = self.resolve(node)
        if value is None:
            return
        name = value.__name__ if isinstance(value, ModuleType) else type(value).__module__
        yield name.partition(".")[0]
        module = getattr(value, "__module__", None)
        if isinstance(module, str):
            yield module.partition(".")[0]

    def _is_lost(self, called: ast.expr, sessions: set[str], local: set[str]) -> bool:
        """Whether a call makes a coroutine, which then nobody awaits."""
        root = called
        while isinstance(root, ast.Attribute):
            root = root.value
        if not isinstance(root, ast.Name):
            return False
        if root.id in sessions:
            return (
                isinstance(called, ast.Attribute)
                and called.value is root
                and called.attr in _OF_SESSIONS
            )
        if root.id in local and root.id != "self":
            return False
        return inspect.iscoroutinefunction(self.resolve(called))

    def helpers(self) -> Iterator[Any]:
        """Yields the functions of the same module that are named here."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Name):
                value = self.names.get(node.id)
                if isinstance(value, FunctionType):
                    yield inspect.unwrap(value)


def _is_platforms(target: Any) -> bool:
    """Whether a function is an activity of the platform, which may use keys of its own."""
    mark = mark_of(target) if callable(target) and not isinstance(target, type) else None
    return mark is not None and mark.kind == "platform"


def _owners(called: ast.expr) -> Iterator[ast.expr]:
    """Yields what is called, and what that is an attribute of."""
    yield called
    while isinstance(called, ast.Attribute):
        called = called.value
        yield called


def _parse(source: str) -> ast.AST:
    # Until Python 3.11.8 a parse fails with a SystemError if another one ends inside it. Code runs
    # inside a parse only if the garbage collector does: finalizers, and then other threads.
    was_on = gc.isenabled()
    gc.disable()
    try:
        return ast.parse(source)
    finally:
        if was_on:
            gc.enable()


def _names_of(target: Any) -> Mapping[str, Any]:
    """Returns what the names in a class's or function's source stand for, but for local ones."""
    found = dict(vars(sys.modules.get(target.__module__) or ModuleType("")))
    functions = [target] if isinstance(target, FunctionType) else list(vars(target).values())
    for function in functions:
        plain = inspect.unwrap(function) if callable(function) else function
        if isinstance(plain, FunctionType):
            for name, cell in zip(plain.__code__.co_freevars, plain.__closure__ or (), strict=True):
                try:
                    found[name] = cell.cell_contents
                except ValueError:  # not set yet
                    continue
    return found


def _own_statements(function: ast.AsyncFunctionDef) -> Iterator[ast.stmt]:
    """Yields the statements of a function, but not those of functions inside it."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            continue
        if isinstance(node, ast.stmt):
            yield node
        waiting += ast.iter_child_nodes(node)


def _local_names(function: ast.AsyncFunctionDef) -> Iterator[str]:
    """Yields the names that are bound in a function."""
    for node in ast.walk(function):
        if isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.alias):
            yield (node.asname or node.name).partition(".")[0]


def _sessions(function: ast.AsyncFunctionDef) -> Iterator[str]:
    """Yields the names that are bound to a session in a function."""
    for node in ast.walk(function):
        if not isinstance(node, ast.AsyncWith):
            continue
        for item in node.items:
            made, name = item.context_expr, item.optional_vars
            if not (isinstance(made, ast.Call) and isinstance(name, ast.Name)):
                continue
            function_name = (
                made.func.attr
                if isinstance(made.func, ast.Attribute)
                else (made.func.id if isinstance(made.func, ast.Name) else "")
            )
            if function_name in _SESSIONS:
                yield name.id
