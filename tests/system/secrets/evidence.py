"""What the real servers and processes keep and show of a test's runs, as bytes to search."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message
from temporalio.client import Client


@dataclass
class Evidence:
    """Bytes by place: a process's log, a run's history, a table's column, a command's output."""

    places: dict[str, bytes] = field(default_factory=dict)

    def add(self, place: str, content: str | bytes) -> None:
        """Adds to what is known of a place."""
        data = content if isinstance(content, bytes) else content.encode()
        self.places[place] = self.places.get(place, b"") + b"\n" + data

    def with_canary(self, canary: str) -> set[str]:
        """Returns the places where a text is found."""
        return {place for place, content in self.places.items() if canary.encode() in content}


async def add_histories(evidence: Evidence, client: Client) -> None:
    """Adds every run of the namespace: its description, and its events without their inputs."""
    async for run in client.list_workflows():
        handle = client.get_workflow_handle(run.id, run_id=run.run_id)
        described = await handle.describe()
        evidence.add("history", described.raw_description.SerializeToString())
        for event in (await handle.fetch_history()).events:
            attributes = getattr(event, event.WhichOneof("attributes") or "")
            if _has_input(attributes):
                evidence.add("inputs", attributes.input.SerializeToString())
                attributes.ClearField("input")
            evidence.add("history", event.SerializeToString())


def add_tables(evidence: Evidence, rows: Mapping[str, list[dict[str, Any]]]) -> None:
    """Adds the rows of tables, each column as a place."""
    for table, found in rows.items():
        for row in found:
            for column, value in row.items():
                shown = value if isinstance(value, bytes) else json.dumps(value, default=str)
                evidence.add(f"{table}.{column}", shown)


def _has_input(attributes: Message) -> bool:
    return "input" in attributes.DESCRIPTOR.fields_by_name
