"""What programs look for in logs and alerts: events, their fields, and the names of alerts."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator

from saas.services.alert_sinks import WebhookAlerts
from temporal_tenancy.sdk.logs import FIELDS
from tests.held_names.code import Module, argument, called, keys, modules

EVENT = re.compile(r"[a-z_]+(\.[a-z_]+)+")
LEVELS = ("debug", "info", "warning", "error", "critical", "exception", "log")
NO_FIELDS = ("exc_info", "stack_info", "stacklevel", "extra")


def log_names() -> Iterator[str]:
    """`event a.b` and `event a.b .field`, and the same for alerts."""
    yield from (f"line .{field}" for field in FIELDS)
    for module in modules():
        for call in module.calls():
            yield from _event(module, call)
            yield from _alert(module, call)
    source = ast.parse(textwrap.dedent(inspect.getsource(WebhookAlerts)))
    for node in ast.walk(source):
        yield from (f"alert webhook .{key}" for key in keys(node))


def _event(module: Module, call: ast.Call) -> Iterator[str]:
    first, second = argument(call, 0, "event"), argument(call, 1, "event")
    by_level = isinstance(first, ast.Attribute) and ast.unparse(first.value) == "logging"
    if not by_level and not (
        called(call) in LEVELS and ast.unparse(call.func).rpartition(".")[0].endswith("log")
    ):
        return
    given = second if by_level else first
    fields = [each.arg for each in call.keywords if each.arg and each.arg not in NO_FIELDS]
    for one in (given.body, given.orelse) if isinstance(given, ast.IfExp) else (given,):
        event = module.value(one)
        if not isinstance(event, str) or not EVENT.fullmatch(event):
            continue
        yield f"event {event}"
        for field in (*fields, *keys(argument(call, 99, "extra"))):
            yield f"event {event} .{field}"


def _alert(module: Module, call: ast.Call) -> Iterator[str]:
    if called(call) != "Alert":
        return
    given = argument(call, 0, "name")
    if isinstance(given, ast.JoinedStr):
        name = "".join(
            str(part.value) if isinstance(part, ast.Constant) else "{}" for part in given.values
        )
    else:
        name = str(module.value(given))
    yield f"alert {name}"
    yield from (f"alert {name} .{key}" for key in keys(argument(call, 2, "details")))
