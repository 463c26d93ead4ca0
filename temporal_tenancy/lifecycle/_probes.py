"""Probes of the servers that a process needs."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from datetime import timedelta

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError

from temporal_tenancy.lifecycle._health import PROBE_TIMEOUT, Probe
from temporal_tenancy.postgres.connections import answers_soon
from temporal_tenancy.postgres.database_urls import database_url
from temporal_tenancy.postgres.secret_texts import hidden


def probes(client: Client, urls: Iterable[str]) -> dict[str, Probe]:
    """Returns probes of Temporal and of each database, by the reason to show when one fails."""

    async def temporal() -> bool:
        try:
            await client.workflow_service.describe_namespace(
                DescribeNamespaceRequest(namespace=client.namespace),
                timeout=timedelta(seconds=PROBE_TIMEOUT),
            )
        except RPCError:
            return False
        return True

    found: dict[str, Probe] = {"Temporal does not answer": temporal}
    for url in map(hidden, urls):
        reason = f"the database does not answer {database_url(url).username}"
        found[reason] = functools.partial(answers_soon, url)
    return found
