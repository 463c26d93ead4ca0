"""Only two modules use private names of the SDK."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import temporalio

import temporal_tenancy

ROOT = Path(__file__).parents[3]
SDK = Path(temporalio.__file__).parent
ALLOWED = {
    Path("temporal_tenancy/sdk/private_names.py"),
    Path("temporal_tenancy/core/_private.py"),  # `core` imports nothing of `sdk`
}
ROOMS = ("temporal_tenancy", "activities", "benchmarks", "dev", "processes", "saas", "workflows")
BY_NAME = {"getattr", "hasattr", "setattr", "delattr"}


def sources() -> list[Path]:
    own = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    return [path.relative_to(ROOT) for path in [*own, ROOT / "worker.py", ROOT / "starter.py"]]


def is_private(name: str) -> bool:
    is_dunder = name.startswith("__") and name.endswith("__")
    return name.startswith("_") and name != "_" and not is_dunder


def private_names_in(tree: ast.AST) -> Iterator[str]:
    """Returns the names that code defines: functions, classes, variables, fields, marks."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.ClassDef(name=name) | ast.Name(id=name, ctx=ast.Store()):
                yield name
            case ast.Attribute(attr=name, ctx=ast.Store()):
                yield name
            case ast.Call(func=ast.Name(id="setattr"), args=[_, ast.Constant(value=str(name)), _]):
                yield name


@cache
def sdks_names() -> frozenset[str]:
    names = [
        name for path in SDK.rglob("*.py") for name in private_names_in(ast.parse(path.read_text()))
    ]
    return frozenset(filter(is_private, names))


def is_private_module(module: str) -> bool:
    first, *rest = module.split(".")
    return first == "temporalio" and ("bridge" in rest or any(map(is_private, rest)))


def found_in(source: str) -> set[str]:
    """Returns the private names of the SDK in some code."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.ImportFrom(module=str(module), names=names):
                every = [module, *(f"{module}.{alias.name}" for alias in names)]
                found |= {name for name in every if is_private_module(name)}
            case ast.Import(names=names):
                found |= {alias.name for alias in names if is_private_module(alias.name)}
            case ast.Attribute(value=ast.Name(id="self" | "cls")):
                pass  # of our own classes; those that extend the SDK's are checked below
            case ast.Attribute(attr=name) if name in sdks_names():
                found.add(name)
            case ast.Call(func=ast.Name(id=called), args=[_, ast.Constant(value=str(name)), *_]):
                if called in BY_NAME and name in sdks_names():
                    found.add(name)
            case ast.Constant(value=str(name)) if name.startswith("__temporal_"):
                found.add(name)
    return found


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("from temporalio.bridge.proto import common", "temporalio.bridge.proto"),
        ("import temporalio.worker._worker", "temporalio.worker._worker"),
        ("from temporalio.worker._worker import Worker", "temporalio.worker._worker"),
        ("from temporalio.service import _BridgeServiceClient as B", "temporalio.service._Bridge"),
        ("workflow._Definition.from_class(cls)", "_Definition"),
        ("worker._shutdown_complete_event.set()", "_shutdown_complete_event"),
        ("self.inner._rpc_call()", "_rpc_call"),
        ("getattr(update, '_defn', None)", "_defn"),
        ("hasattr(function, '__temporal_workflow_run')", "__temporal_workflow_run"),
        ("EXTRAS = ['__temporal_error_identifier']", "__temporal_error_identifier"),
    ],
)
def test_a_name_that_is_not_public_is_found(source: str, name: str) -> None:
    assert any(each.startswith(name) for each in found_in(source))


def test_only_two_modules_name_what_the_sdk_keeps_to_itself() -> None:
    found = {path: names for path in sources() if (names := found_in((ROOT / path).read_text()))}
    assert set(found) == ALLOWED, found


def derived() -> Iterator[tuple[type, type]]:
    """Returns each class of the library that extends one of the SDK's, with that class."""
    for module in pkgutil.walk_packages(temporal_tenancy.__path__, "temporal_tenancy."):
        path = Path(*module.name.split(".")).with_suffix(".py")
        if path in ALLOWED or ".migrations" in module.name:
            continue
        for _, cls in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if cls.__module__ == module.name:
                for base in cls.__mro__:
                    if base.__module__.split(".")[0] == "temporalio":
                        yield cls, base


def own_names_of(cls: type) -> set[str]:
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    used = (node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute))
    return set(filter(is_private, [*private_names_in(tree), *used]))


def kept_by(base: type) -> set[str]:
    tree = ast.parse(textwrap.dedent(inspect.getsource(base)))
    return set(filter(is_private, private_names_in(tree)))


def test_no_class_of_the_library_uses_what_its_base_keeps_to_itself() -> None:
    pairs = list(derived())
    assert len(pairs) > 10
    for cls, base in pairs:
        assert not own_names_of(cls) & kept_by(base), cls
