"""Records an engine's statements by transaction, with parameters and row counts."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
from psycopg.types.json import Json, Jsonb
from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncEngine


@dataclass(frozen=True)
class Sent:
    """A statement, as sent to the driver."""

    sql: str
    parameters: Any  # of any type: by name, or a list of them
    rows: int  # returned or changed; -1: the driver does not report it


@dataclass
class Transaction:
    """The statements of one role up to a commit."""

    role: str  # "tenant", "platform" or "relay", as in the URLs
    sent: list[Sent] = field(default_factory=list)


class Recording:
    """The transactions of several engines, in the order in which they begin."""

    def __init__(self) -> None:
        self.transactions: list[Transaction] = []

    def listen(self, engine: AsyncEngine, role: str) -> None:
        """Records what `engine` sends from now on, as `role`; one session at a time."""

        @event.listens_for(engine.sync_engine, "begin")
        def begin(connection: Connection) -> None:
            self.transactions.append(Transaction(role))

        @event.listens_for(engine.sync_engine, "after_cursor_execute")
        def sent(
            connection: Connection,
            cursor: Any,
            statement: str,
            parameters: Any,
            context: Any,
            executemany: bool,
        ) -> None:
            self.transactions[-1].sent.append(Sent(statement, parameters, cursor.rowcount))

    def document(self) -> list[dict[str, Any]]:
        """Returns the recording as JSON."""
        return [
            {
                "role": each.role,
                "sent": [
                    {"sql": one.sql, "parameters": written(one.parameters), "rows": one.rows}
                    for one in each.sent
                ],
            }
            for each in self.transactions
            if each.sent
        ]


def written(value: Any) -> Any:
    """Returns a parameter as JSON that `read` turns back into the same value."""
    match value:
        case datetime():
            return {"$time": value.astimezone(UTC).isoformat()}
        case date():
            return {"$date": value.isoformat()}
        case timedelta():
            return {"$seconds": value.total_seconds()}
        case UUID():
            return {"$uuid": str(value)}
        case bytes():
            return {"$hex": value.hex()}
        case psycopg.Binary():
            return written(value.obj)
        case Jsonb() | Json():
            return {"$json": value.obj}
        case dict():
            return {name: written(each) for name, each in value.items()}
        case list() | tuple():
            return [written(each) for each in value]
        case str():
            return str(value)  # enums too
        case None | bool() | int() | float():
            return value
    raise TypeError(f"{type(value).__name__} cannot be written down")


def read(value: Any) -> Any:
    """Reads what `written` has written."""
    match value:
        case {"$time": moment}:
            return datetime.fromisoformat(moment)
        case {"$date": day}:
            return date.fromisoformat(day)
        case {"$seconds": seconds}:
            return timedelta(seconds=seconds)
        case {"$uuid": text}:
            return UUID(text)
        case {"$hex": text}:
            return bytes.fromhex(text)
        case {"$json": document}:
            return Jsonb(document)
        case dict():
            return {name: read(each) for name, each in value.items()}
        case list():
            return [read(each) for each in value]
    return value
