"""The fields that tenancy puts on a start, for a peer that gets them too, but for the header."""

from __future__ import annotations

from typing import Any

from temporalio.common import (
    Priority,
    SearchAttributeKey,
    SearchAttributePair,
    TypedSearchAttributes,
)


def own_fields(tenant: str, job: str, key: str) -> dict[str, Any]:
    """Returns keyword arguments of a start: search attributes, priority and summary."""
    attributes = {"TenantId": tenant, "Job": job}
    return {
        "search_attributes": TypedSearchAttributes(
            [
                SearchAttributePair(SearchAttributeKey.for_keyword(name), value)
                for name, value in attributes.items()
            ]
        ),
        "priority": Priority(priority_key=3, fairness_key=tenant, fairness_weight=2.0),
        "static_summary": f"{job} for {tenant}: {key}",
        "static_details": "Runs one no-op activity.",
    }
