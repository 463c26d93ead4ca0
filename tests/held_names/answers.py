"""The keys of what `--json` answers.

No model says what they are: a command's answer is put together of dict displays, in functions that
call each other, and of some dataclasses. So they are read in the code that a command reaches.
"""

from __future__ import annotations

import ast
import asyncio
import dataclasses
import inspect
from collections.abc import Collection, Iterator, Mapping
from enum import EnumType
from functools import cache
from importlib import import_module
from types import FunctionType, UnionType
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel

from tests.held_names.code import UNKNOWN, Module, called
from tests.held_names.commands import command_line, each_command, function_of

NO_ANSWERS: Final = ("execute", "scalar", "scalars")  # dicts they take are values of statements
OPTIONS: Final = ("config",)  # what is put into it are options of a connection
Function = ast.FunctionDef | ast.AsyncFunctionDef


def json_keys() -> Iterator[str]:
    """`starter.py a command .key`: wherever in the answer it is."""
    [perform] = {
        module.there.perform for module in command_line() if hasattr(module.there, "perform")
    }
    yield from (f"starter.py .{key}" for key in _reached(perform))  # of whatever goes wrong
    for words, command in each_command():
        yield from (f"{words} .{key}" for key in _reached(function_of(command), without=perform))


def _reached(start: Any, *, without: Any = None) -> set[str]:
    waiting, seen = [start], {start, without}
    found = set[str]()
    while waiting:
        written = _written(waiting.pop())
        if written is None:
            continue
        found |= set(written.keys())
        new = {each for each in written.references() if each not in seen}
        seen |= new
        waiting += new
    return found


@dataclasses.dataclass(frozen=True, eq=False)
class Written:
    """A function or class of the command line, as it is written."""

    module: Module
    node: ast.AST

    def references(self) -> Iterator[Any]:
        """The functions and classes of the command line that it names."""
        for node in ast.walk(self.node):
            if isinstance(node, ast.Name | ast.Attribute):
                value = self._value(node)
                if isinstance(value, FunctionType | type):
                    yield inspect.unwrap(value) if isinstance(value, FunctionType) else value

    def keys(self) -> Iterator[str]:
        """The keys that it may put into an answer."""
        left_out = {id(each) for each in self._no_answers()}
        for node in ast.walk(self.node):
            if isinstance(node, ast.Dict) and id(node) not in left_out:
                yield from (self._value(key) for key in node.keys if self._is_text(key))
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    if (
                        isinstance(target, ast.Subscript)
                        and self._is_text(target.slice)
                        and ast.unparse(target.value) not in OPTIONS
                    ):
                        yield self._value(target.slice)
            if isinstance(node, ast.DictComp):
                yield from self._counted(node)
            if isinstance(node, ast.Call) and called(node) in ("asdict", "vars", "model_dump"):
                yield from self._fields(node)

    def _no_answers(self) -> Iterator[ast.AST]:
        for node in ast.walk(self.node):
            if isinstance(node, ast.Call):
                yield from (each.value for each in node.keywords if each.arg is None)
                if called(node) in NO_ANSWERS:
                    yield from node.args

    def _is_text(self, node: ast.AST | None) -> bool:
        return isinstance(self._value(node), str)

    def _value(self, node: ast.AST | None) -> Any:
        return self.module.value(node, **self._imports)

    @property
    def _imports(self) -> Mapping[str, Any]:
        """What it imports itself, so that `--help` does without."""
        return _imports(self.node)

    def _counted(self, node: ast.DictComp) -> Iterator[str]:
        """The keys of `{str(one): … for one in All}`, where it is known who all are."""
        [loop] = node.generators
        values = self._value(loop.iter)
        target: ast.expr = loop.target
        if values is UNKNOWN and isinstance(loop.iter, ast.Call) and called(loop.iter) == "items":
            assert isinstance(loop.iter.func, ast.Attribute)
            mapping = self._type(loop.iter.func.value)
            values = get_args(mapping)[0] if get_args(mapping) else UNKNOWN
            assert isinstance(target, ast.Tuple)
            target = target.elts[0]
        if not isinstance(values, Collection | EnumType) or not isinstance(target, ast.Name):
            return
        code = compile(ast.Expression(node.key), self.module.name, "eval")
        for value in (each for each in values if isinstance(each, str)):
            yield str(eval(code, dict(vars(self.module.there)), {target.id: value}))  # noqa: S307

    def _fields(self, call: ast.Call) -> Iterator[str]:
        """The fields of what `asdict(it)`, `vars(it)` or `it.model_dump()` are of.

        Raises `LookupError` where the code does not say it: keys of an answer would be missed.
        """
        if any(call is each for each in self._no_answers_inside()):
            return
        if called(call) == "model_dump":
            assert isinstance(call.func, ast.Attribute)
            subject: ast.expr = call.func.value
        else:
            subject = call.args[0]
        if _is(subject, "self"):  # what an object keeps for itself
            return
        of = self._type(subject)
        for option in get_args(of) if get_origin(of) in (Union, UnionType) else (of,):
            if isinstance(option, type) and issubclass(option, BaseModel):
                yield from option.model_fields
            elif dataclasses.is_dataclass(option):
                yield from (field.name for field in dataclasses.fields(option))
            elif option is not type(None):
                raise LookupError(
                    f"{self.module.name}: the type of {ast.unparse(subject)} (line "
                    f"{call.lineno}) is not found. Annotate what it comes from."
                )

    def _no_answers_inside(self) -> Iterator[ast.AST]:
        for outer in self._no_answers():
            yield from ast.walk(outer)

    def _type(self, node: ast.expr) -> Any:
        """The type of an expression, from annotations; `UNKNOWN` where they do not say it."""
        if isinstance(node, ast.Await | ast.Starred):
            return self._type(node.value)
        if isinstance(node, ast.List):
            first = node.elts[0]
            inner = self._type(first)
            return inner if isinstance(first, ast.Starred) else list[inner]  # type: ignore[valid-type]
        if isinstance(node, ast.Name):
            return self._type_of_name(node.id)
        if isinstance(node, ast.Attribute):
            owner = self._type(node.value)
            if isinstance(owner, type):
                member = inspect.getattr_static(owner, node.attr, None)
                if isinstance(member, FunctionType):
                    return member
                if isinstance(member, property) and member.fget is not None:
                    return get_type_hints(member.fget).get("return", UNKNOWN)
                return get_type_hints(owner).get(node.attr, UNKNOWN)
            return self._value(node)
        if isinstance(node, ast.Call):
            return self._type_of_call(node)
        return UNKNOWN

    def _type_of_call(self, node: ast.Call) -> Any:
        function = self._value(node.func)
        if function is asyncio.run:
            return (UNKNOWN, *get_args(self._type(node.args[0])))[-1]
        if function is asyncio.to_thread:
            function = self._value(node.args[0])
        if function is UNKNOWN:
            function = self._type(node.func)
        if isinstance(function, type):
            return function
        if isinstance(function, FunctionType):
            return get_type_hints(inspect.unwrap(function)).get("return", UNKNOWN)
        return UNKNOWN

    def _type_of_name(self, name: str) -> Any:
        """By where the name is bound: an assignment, a loop, a parameter."""
        for node in ast.walk(self.node):
            if isinstance(node, ast.arg) and node.arg == name and node.annotation is not None:
                return self._annotation(node.annotation)
            if isinstance(node, ast.AnnAssign) and _is(node.target, name):
                return self._annotation(node.annotation)
            if isinstance(node, ast.For | ast.comprehension) and _is(node.target, name):
                return (*get_args(self._type(node.iter)), UNKNOWN)[0]
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    if _is(target, name):
                        return self._type(node.value)
                    if isinstance(target, ast.Tuple):
                        for place, each in enumerate(target.elts):
                            if _is(each, name):
                                return get_args(self._type(node.value))[place]
        return self._checked(name)

    def _checked(self, name: str) -> Any:
        """The class that the code asks it to be of."""
        for call in (each for each in ast.walk(self.node) if isinstance(each, ast.Call)):
            if called(call) == "isinstance" and _is(call.args[0], name):
                return self._value(call.args[1])
        return UNKNOWN

    def _annotation(self, node: ast.expr) -> Any:
        names = {**vars(self.module.there), **self._imports}
        return eval(ast.unparse(node), names)  # noqa: S307


def _is(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


@cache
def _imports(node: ast.AST) -> Mapping[str, Any]:
    found: dict[str, Any] = {}
    for inner in ast.walk(node):
        if isinstance(inner, ast.ImportFrom) and inner.module:
            package = import_module(inner.module)
            for alias in inner.names:
                found[alias.asname or alias.name] = getattr(package, alias.name, UNKNOWN)
    return found


@cache
def _written(reference: Any) -> Written | None:
    return _all_written().get((reference.__module__, reference.__qualname__))


@cache
def _all_written() -> Mapping[tuple[str, str], Written]:
    return {
        (module.name, name): Written(module, node)
        for module in command_line()
        for name, node in _definitions(module.tree, "")
    }


def _definitions(tree: Any, prefix: str) -> Iterator[tuple[str, ast.AST]]:
    for node in tree.body:
        if isinstance(node, Function | ast.ClassDef):
            yield f"{prefix}{node.name}", node
