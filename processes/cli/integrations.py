"""Sets up, lists, syncs and removes integrations; no credential is ever shown."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import typer

from processes.cli import requests
from saas.database.integrations import Integration
from saas.requests.integrations import (
    INTEGRATIONS,
    JOB,
    has_credential,
    remove_integration,
    request_sync,
    set_up_integration,
)
from saas.services.secrets import SECRET_MAX_BYTES
from temporal_tenancy import WorkflowId, tenant_id
from temporal_tenancy.cli import (
    Answer,
    address,
    facts,
    lines,
    minute,
    operator,
    quoted,
    servers,
    table,
    wait_for_job,
    where_failed,
)
from temporal_tenancy.core import number

STANDARD_INPUT: Final = "-"
_HINT: Final = "--credential-file"


async def put(name: str, *, tenant: str, url: str, credential_file: str | None) -> Answer:
    """Adds or changes an integration; without a file its credential stays as it is.

    Raises:
        TenancyError: there is no such tenant; nothing has changed.
        IntegrationInvalid, AddressRefused, CredentialMissing: the name, URL or credential is not
            valid; nothing has changed.
        typer.BadParameter: the file cannot be read; nothing has changed.
    """
    credential = None if credential_file is None else _credential(credential_file)
    async with requests.tenants_settings(tenant) as session:
        made = await set_up_integration(
            session, name, url=url, credential=credential, actor=operator()
        )
        document = await _document(tenant, made.integration)
    done = "is set up" if made.added else "is changed"
    sync = quoted(f"integrations sync {name} --tenant {tenant}")
    return Answer(
        {**document, "added": made.added},
        lines(f"{name} of {tenant} {done}.", f"{sync} copies its records.", address(url)),
    )


async def show_all(*, tenant: str, limit: int) -> Answer:
    """Lists a tenant's integrations in the order of their names."""
    async with requests.tenants_view(tenant) as session:
        found = await requests.newest(session, INTEGRATIONS, limit)
        documents = [await _document(tenant, each) for each in found]
    rows = [
        (d["name"], d["url"], d["status"], minute(d["last_synced_at"]),
         "stored" if d["has_credential"] else "missing")
        for d in documents
    ]  # fmt: skip
    titles = ("name", "URL", "status", "last synced", "credential")
    shown = table(titles, rows, empty=f"{tenant} has no integrations.")
    failures = [f"{d['name']}: {d['error']}" for d in documents if d["error"]]
    return Answer(documents, lines(shown, *failures))


async def sync(name: str, *, tenant: str, wait: bool, quiet: bool) -> Answer:
    """Requests the sync of an integration, at most once a minute; `wait` waits until it ends.

    Raises:
        TenancyError: the tenant may not run the job; nothing is requested.
        IntegrationNotFound, CredentialMissing: there is no such integration, or no credential for
            it; nothing is requested.
    """
    async with servers() as connections:
        async with requests.tenants_request(connections.database, tenant, JOB) as session:
            asked = await request_sync(session, name)
        workflow_id = WorkflowId(tenant_id(tenant), JOB, asked.key)
        url = connections.link(str(workflow_id))
        document: dict[str, Any] = {
            "name": name,
            "tenant_id": tenant,
            "workflow_id": str(workflow_id),
            "url": url,
            "requested": asked.added,
        }
        if not wait:
            text = (
                f"A sync of {name} of {tenant} is requested."
                if asked.added
                else f"A sync of {name} of {tenant} was requested less than a minute ago."
            )
            more = f"{quoted(f'explain {workflow_id}')} shows its status."
            return Answer(document, lines(text, more, address(url)))
        result, problem = await wait_for_job(connections, workflow_id, quiet=quiet)
    document["result"] = result
    copied = None
    if isinstance(result, dict):
        records, pages = int(result.get("records", 0)), int(result.get("pages", 0))
        copied = f"{number(records, 'record')} on {number(pages, 'page')}"
    shown = facts([("integration", f"{name} of {tenant}"), ("copied", copied)])
    return Answer(document, lines(shown, where_failed(url, problem)), problem)


async def remove(name: str, *, tenant: str) -> Answer:
    """Removes an integration with its records and credential; raises `IntegrationNotFound`."""
    async with requests.tenants_view(tenant) as session:
        await remove_integration(session, name, actor=operator())
    return Answer(
        {"name": name, "tenant_id": tenant, "removed": True},
        f"{name} of {tenant} is removed, with its records and its credential.",
    )


def _credential(file: str) -> str:
    """Reads a credential, of which no message repeats anything."""
    try:
        if file == STANDARD_INPUT:
            content = sys.stdin.buffer.read(SECRET_MAX_BYTES + 3)
        else:
            with Path(file).open("rb") as opened:
                content = opened.read(SECRET_MAX_BYTES + 3)
        text = content.decode()
    except UnicodeDecodeError:
        raise typer.BadParameter("the credential is no text in UTF-8.", param_hint=_HINT) from None
    except OSError as error:
        raise typer.BadParameter(
            f"the file {file} cannot be read: {error.strerror}.", param_hint=_HINT
        ) from None
    # Editors and `echo` end the line.
    credential = text.removesuffix("\n").removesuffix("\r")
    if not credential:
        raise typer.BadParameter("the credential is empty.", param_hint=_HINT)
    return credential


async def _document(tenant: str, integration: Integration) -> dict[str, Any]:  # JSON
    return {
        "name": integration.name,
        "tenant_id": tenant,
        "url": integration.url,
        "status": integration.status,
        "error": integration.failure,
        "last_synced_at": integration.last_synced_at,
        "created_at": integration.created_at,
        "has_credential": await has_credential(integration),
    }
