"""Each door that the README and the docs name is there, and a test goes through it.

A door is a command, a route or a public name. What a test goes through is read from the tests'
source: the words it passes to a program, the paths it requests, the names it uses. A public name
may be used by the reference SaaS instead, which tests run.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Final

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from typer.main import get_command

import processes.web
import processes.web.health
import processes.web.pages
from dev.public_names import doors
from processes.cli.app import app

ROOT: Final = Path(__file__).parents[3]
TESTS: Final = [path for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__)]
USERS: Final = [
    *TESTS,
    *(
        path
        for room in ("activities", "dev", "processes", "saas", "workflows")
        for path in (ROOT / room).rglob("*.py")
    ),
    ROOT / "starter.py",
    ROOT / "worker.py",
]
PAGES: Final = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
}
EVERYWHERE: Final = "\n".join(PAGES.values())
# `starter.py outbox list`, `pause`, `resume`: the rest are commands of the same group.
GROUP_ONCE: Final = re.compile(
    r"`(?:starter\.py|tenancy) ([a-z-]+) [a-z][^`]*`((?:(?:, | and |, and | or )`[a-z-]+`)+)"
)
SAMPLE: Final = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
METHODS: Final = {"get", "post", "put", "patch", "delete"}
HOLE: Final = "\0"  # a value that the source does not say

Words = tuple[str, ...]
Route = tuple[str, str]


def leaves(command: object, words: Words = ()) -> Iterator[Words]:
    """Returns the words of every command that does something."""
    below = getattr(command, "commands", {})
    if not below:
        yield words
    for name, each in below.items():
        yield from leaves(each, (*words, name))


def routes() -> Iterator[Route]:
    """Returns every route of the HTTP door that a program may call."""
    for found in pkgutil.iter_modules(processes.web.__path__):
        if found.name.startswith("__"):
            continue
        router = getattr(importlib.import_module(f"processes.web.{found.name}"), "router", None)
        for route in router.routes if isinstance(router, APIRouter) else ():
            if isinstance(route, APIRoute) and route.include_in_schema:
                yield from ((method, route.path) for method in route.methods or ())


def pages() -> Iterator[str]:
    """Returns every path that the door answers a person or a balancer, beside its API."""
    for module in (processes.web.pages, processes.web.health):
        for route in module.router.routes:
            if isinstance(route, APIRoute) and "{" not in route.path:
                yield route.path
    yield from processes.web.pages._WRITTEN
    yield str(FastAPI().openapi_url)


COMMANDS: Final = sorted(leaves(get_command(app)))
ROUTES: Final = sorted(set(routes()))
SHOWN: Final = sorted(set(pages()))


PUBLIC: Final = sorted(
    {(door, name) for door in doors() for name in importlib.import_module(door).__all__}
)


@cache
def parsed(path: Path) -> ast.AST:
    return ast.parse(path.read_text())


def text_of(node: ast.AST) -> str | None:
    """Returns a literal's text, with a hole for each value in it."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.Constant) and isinstance(node.value, bytes):
        return node.value.decode("latin-1")
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(each) or HOLE for each in node.values)
    return None


def texts_in(tree: ast.AST) -> Iterator[list[str]]:
    """Returns the texts beside each other in a call, a list or a tuple; split ones split."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            within: list[ast.expr] = node.args
            method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            split = text_of(node.func.value) if isinstance(node.func, ast.Attribute) else None
            if method == "split" and split:
                yield split.split()
            elif method in METHODS and within:
                yield [method.upper(), text_of(within[0]) or HOLE]
        elif isinstance(node, ast.List | ast.Tuple):
            within = node.elts
        elif (alone := text_of(node)) and " " in alone:
            yield alone.split()
            continue
        else:
            continue
        yield [text_of(each) or HOLE for each in within]


@cache
def words_of_tests() -> frozenset[Words]:
    """Returns what tests pass to programs: each first word, and each pair of words."""
    return frozenset(
        words
        for path in TESTS
        for texts in texts_in(parsed(path))
        for words in [*((text,) for text in texts), *pairwise(texts)]
    )


def names_in(tree: ast.AST) -> Iterator[str]:
    """Returns the names in code, and in the code that its strings contain."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.arg):  # a fixture's name
            yield node.arg
        elif isinstance(node, ast.ImportFrom):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from re.findall(r"temporal_tenancy[\w.]*\.(\w+)$", node.value)
            if "import " in node.value and "\n" in node.value:
                with contextlib.suppress(SyntaxError):
                    yield from names_in(ast.parse(node.value))


@cache
def names_in_use() -> frozenset[str]:
    """Returns the names in tests, in the reference SaaS and in the samples of the docs.

    What a function that is in use takes or returns is in use too.
    """
    samples = [ast.parse(block) for block in SAMPLE.findall(EVERYWHERE)]
    names = {name for tree in [*map(parsed, USERS), *samples] for name in names_in(tree)}
    for door, name in PUBLIC:
        value = getattr(importlib.import_module(door), name)
        if name in names and (inspect.isfunction(value) or inspect.isclass(value)):
            function = value.__init__ if inspect.isclass(value) else value
            hints = getattr(function, "__annotations__", {}).values()
            names |= set(re.findall(r"\w+", " ".join(map(str, hints))))
    return frozenset(names)


@cache
def requests_of_tests() -> frozenset[Route]:
    """Returns the method and path of each request, and of each that a test may mean.

    A path may stand apart from its request, in a parameter or a list: then it goes with each method
    that the file uses.
    """
    found = set()
    for path in TESTS:
        methods, paths = set(), set()
        for node in ast.walk(parsed(path)):
            text = text_of(node)
            if isinstance(node, ast.Attribute) and node.attr in METHODS:
                methods.add(node.attr.upper())
            elif text is not None:
                line = text.split(" ")
                methods |= {word for word in line if word.lower() in METHODS and word.isupper()}
                paths |= {word for word in line if word.startswith("/")}
        found |= {(method, path) for method in methods for path in paths}
    return frozenset(found)


def is_requested(method: str, template: str, requests: Iterable[Route]) -> bool:
    """Tells whether one of the requests is one of the route."""
    part = re.sub(r"\\\{\w+\\\}", "[^/?]+", re.escape(template).replace(":path", ""))
    pattern = re.compile(part + r"(\?.*)?")
    return any(asked == method and pattern.fullmatch(path) is not None for asked, path in requests)


def routes_named(text: str) -> set[Route]:
    """Returns the routes in a text: a method holds for the paths in the rest of the line.

    A path that only ends another one (`/events`, after `/imports/{id}/events`) counts as it stands.
    """
    found = set()
    for line in text.splitlines():
        methods: list[str] = []
        fresh = False
        for span in re.findall(r"`([^`\n]+)`", line):
            words = span.split()
            named = [word for word in words if word.lower() in METHODS and word.isupper()]
            if named:
                methods = [*methods, *named] if fresh else named
                fresh = len(words) == len(named)
            paths = [word for word in words if re.fullmatch(r"/[\w{}./:-]*(\?\S*)?", word)]
            found |= {(method, shape(path)) for method in methods for path in paths}
            fresh = fresh and not paths
    return found


def shape(path: str) -> str:
    """Returns a route's path without its query and the names of its parts."""
    return re.sub(r"\{[\w:]+\}", "{}", path.partition("?")[0])


def is_named(words: Words) -> bool:
    """Tells whether a page shows a command."""
    said = re.escape(" ".join(words))
    program = r"(?:starter\.py|tenancy|temporal_tenancy)(?: --\S+ \S+| --debug)*"
    if re.search(rf"{program} {said}(?![\w-])", EVERYWHERE):
        return True
    return any(
        group == words[0] and f"`{words[-1]}`" in rest
        for group, rest in GROUP_ONCE.findall(EVERYWHERE)
    )


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_is_named_in_the_docs_and_run_by_a_test(words: Words) -> None:
    assert is_named(words), f"no page shows starter.py {' '.join(words)}"
    assert words in words_of_tests(), f"no test runs starter.py {' '.join(words)}"


@pytest.mark.parametrize("route", ROUTES, ids=" ".join)
def test_a_route_is_named_in_the_docs_and_requested_by_a_test(route: Route) -> None:
    method, template = route
    assert (method, shape(template)) in routes_named(EVERYWHERE), f"no page names {route}"
    assert is_requested(method, template, requests_of_tests()), f"no test sends {route}"


@pytest.mark.parametrize("path", SHOWN)
def test_a_page_is_named_in_the_docs_and_opened_by_a_test(path: str) -> None:
    assert f"`{path}`" in EVERYWHERE, f"no page names {path}"
    assert is_requested("GET", path, requests_of_tests()), f"no test opens {path}"


@pytest.mark.parametrize("gone", ROUTES, ids=" ".join)
def test_a_route_that_is_taken_away_is_missed(gone: Route) -> None:
    left = {(method, shape(path)) for method, path in ROUTES} - {(gone[0], shape(gone[1]))}
    assert any(not routes_named(text) <= left for text in PAGES.values())


@pytest.mark.parametrize("page", PAGES)
def test_a_route_that_a_page_names_is_there(page: str) -> None:
    assert routes_named(PAGES[page]) <= {(method, shape(path)) for method, path in ROUTES}


@pytest.mark.parametrize(("door", "name"), PUBLIC, ids=lambda part: str(part))
def test_a_public_name_is_used(door: str, name: str) -> None:
    assert name in names_in_use(), f"nobody uses {door}.{name}"


def test_what_no_test_does_is_found() -> None:
    assert ("no-such", "command") not in words_of_tests()
    assert not is_named(("no-such", "command"))
    assert not is_requested("DELETE", "/healthz", {("GET", "/healthz"), ("DELETE", "/health")})
    assert is_requested("GET", "/imports/{id}", {("GET", f"/imports/{HOLE}?x=1")})
    assert not is_requested("GET", "/imports/{id}", {("GET", f"/imports/{HOLE}/events")})
    row = "| `PUT`, `DELETE /a/{b}`, `GET /a?q=`, `/c` | `/d` |"
    named = {("PUT", "/a/{}"), ("DELETE", "/a/{}"), ("GET", "/a"), ("GET", "/c"), ("GET", "/d")}
    assert routes_named(row) == named
