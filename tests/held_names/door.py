"""What programs that call the HTTP door write and read: paths, parameters, fields, problems."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fastapi.routing import iter_route_contexts

from processes.web.app import create_app
from processes.web.door import OPEN_JOBS, make_door
from processes.web.errors import AWAY, STATUSES, ProblemAnswer
from processes.web.refusals import WebRefusal
from saas.settings import Settings
from temporal_tenancy.postgres.database import Database
from tests.held_names.code import UNKNOWN, argument, called, modules
from tests.held_names.shapes import paths, shape


def door_names() -> Iterator[str]:
    """One line each."""
    app = create_app(make_door(Settings.model_construct(), Database()))
    for route in iter_route_contexts(app.routes):
        for method in sorted(getattr(route, "methods", None) or {"*"}):
            yield f"{method} {route.path}"
    yield from (f"POST /jobs/{job}" for job in OPEN_JOBS)
    document = app.openapi()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield from _operation(f"{method.upper()} {path}", operation, document)
    yield from _problems()


def _operation(
    what: str, operation: Mapping[str, Any], document: Mapping[str, Any]
) -> Iterator[str]:
    for given in operation.get("parameters", ()):
        for path in paths(given["schema"], document):
            yield f"{what} {given['in']} {given['name']}{path}"
    for kind, path in _contents(operation.get("requestBody", {}), document):
        yield f"{what} takes {kind} {path}".rstrip()
    for status, answer in operation.get("responses", {}).items():
        yield f"{what} {status}"
        if status.startswith("2"):  # all others are problems
            for kind, path in _contents(answer, document):
                yield f"{what} {status} {kind} {path}".rstrip()


def _contents(part: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for kind, content in part.get("content", {}).items():
        yield from ((kind, path) for path in paths(content.get("schema", {}), document))


def _problems() -> Iterator[str]:
    yield from (f"problem {path}".rstrip() for path in shape(ProblemAnswer, "serialization"))
    for kind, status in STATUSES.items():
        yield f"problem {kind.__name__} {status}"
    yield from (f"problem for {kind.__name__}" for kind in AWAY)
    for module in modules():
        for value in vars(module.there).values():
            if (
                isinstance(value, type)
                and issubclass(value, WebRefusal)
                and value is not WebRefusal
            ):
                yield f"problem {value.__name__} {value.status}"
        for call in module.calls():
            kind = module.value(argument(call, 1, "kind"))
            if called(call) == "problem" and kind is not UNKNOWN:
                yield f"problem {kind} {module.value(argument(call, 0, 'status'))}"
