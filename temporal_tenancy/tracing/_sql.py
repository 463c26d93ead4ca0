"""A span for each SQL statement: its kind and its table, without values."""

from __future__ import annotations

import re
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from sqlalchemy import Engine, event

_SPAN: Final = "tenancy_span"  # of the statement, in its execution context's connection
_FIRST: Final = re.compile(r"\s*(?:/\*.*?\*/\s*|--[^\n]*\n\s*)*([A-Za-z]+)", re.DOTALL)
_TABLE: Final = re.compile(r"\b(?:from|into|update|table)\s+(?:only\s+)?([\w.\"]+)", re.IGNORECASE)
_CTE: Final = "WITH"
_CHANGES: Final = re.compile(r"\b(insert\s+into|update|delete\s+from)\b", re.IGNORECASE)
_LEN: Final = 10_000  # characters of a statement that are looked at


def trace_statements() -> None:
    """Makes each statement of SQLAlchemy's engines in a trace a span of it; once is enough."""
    if not event.contains(Engine, "before_cursor_execute", _before):
        event.listen(Engine, "before_cursor_execute", _before)
        event.listen(Engine, "after_cursor_execute", _after)
        event.listen(Engine, "handle_error", _failed)


def _before(
    connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool
) -> None:
    if context is None or not trace.get_current_span().get_span_context().is_valid:
        return  # outside a trace: a relay looking for messages would fill the collector
    operation, table = described(statement)
    attributes = {"db.system.name": "postgresql", "db.operation.name": operation}
    if table:
        attributes["db.collection.name"] = table
    name = f"{operation} {table}" if table else operation
    span = trace.get_tracer(__name__).start_span(name, kind=SpanKind.CLIENT, attributes=attributes)
    setattr(context, _SPAN, span)


def _after(
    connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool
) -> None:
    span = _taken(context)
    if span is not None:
        span.end()


def _failed(context: Any) -> None:
    span = _taken(context.execution_context)
    if span is not None:
        error = context.original_exception
        kind = getattr(error, "sqlstate", None) or type(error).__name__
        span.set_attribute("error.type", kind)
        span.set_status(Status(StatusCode.ERROR, type(error).__name__))
        span.end()


def _taken(context: Any) -> Span | None:
    span: Span | None = getattr(context, _SPAN, None)
    if span is not None:
        setattr(context, _SPAN, None)
    return span


def described(statement: str) -> tuple[str, str | None]:
    """Returns a statement's operation, such as SELECT, and its first table, if it names one."""
    text = statement[:_LEN]
    found = _FIRST.match(text)
    operation = found[1].upper() if found else "SQL"
    if operation == _CTE:
        change = _CHANGES.search(text)
        operation = change[1].split()[0].upper() if change else "SELECT"
        text = text[change.start() :] if change else text
    table = _TABLE.search(text)
    return operation, table[1].replace('"', "") if table else None
