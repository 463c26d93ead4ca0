"""Tenancy on Temporal's SDK: the checks that every start, task and message passes through."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from temporal_tenancy.core.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from temporal_tenancy.sdk.core_logs import forward_core_logs
    from temporal_tenancy.sdk.log_lines import JsonLines
    from temporal_tenancy.sdk.logs import SDK_EXTRAS, JobContext, add_job, is_news, is_of_a_job
    from temporal_tenancy.sdk.pollers import POLLERS
    from temporal_tenancy.sdk.search_attributes import (
        SEARCH_ATTRIBUTES,
        SearchAttributesMissing,
        missing_search_attributes,
        register_search_attributes,
        require_search_attributes,
    )
    from temporal_tenancy.sdk.taken_ids import KeyReused

__all__ = [
    "POLLERS",
    "SDK_EXTRAS",
    "SEARCH_ATTRIBUTES",
    "JobContext",
    "JsonLines",
    "KeyReused",
    "SearchAttributesMissing",
    "add_job",
    "forward_core_logs",
    "is_news",
    "is_of_a_job",
    "missing_search_attributes",
    "register_search_attributes",
    "require_search_attributes",
]

_WHERE: Final = {
    "POLLERS": "pollers",
    "SDK_EXTRAS": "logs",
    "SEARCH_ATTRIBUTES": "search_attributes",
    "JobContext": "logs",
    "JsonLines": "log_lines",
    "KeyReused": "taken_ids",
    "SearchAttributesMissing": "search_attributes",
    "add_job": "logs",
    "forward_core_logs": "core_logs",
    "is_news": "logs",
    "is_of_a_job": "logs",
    "missing_search_attributes": "search_attributes",
    "register_search_attributes": "search_attributes",
    "require_search_attributes": "search_attributes",
}

__getattr__, __dir__ = lazy_exports(__name__, _WHERE)
