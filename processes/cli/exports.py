"""Requests exports, and saves their files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import typer

from processes.cli import requests
from processes.cli.saved_files import INCOMPLETE, require_free, save
from saas.database.exports import Export, ExportDataset, ExportFormat, RequestStatus
from saas.requests.exports import EXPORTS, JOB, begin_export, find_export, path_of
from saas.services.object_storage import current_storage
from temporal_tenancy import WorkflowId, tenant_id
from temporal_tenancy.cli import (
    Answer,
    Problem,
    address,
    facts,
    lines,
    minute,
    quoted,
    servers,
    wait_for_job,
    when,
    where_failed,
)
from temporal_tenancy.core import did_you_mean, number


async def start(dataset: str, *, tenant: str, format: str, wait: bool, quiet: bool) -> Answer:
    """Requests an export of a tenant's data; `wait` waits until its file is written.

    Raises:
        TenancyError: the tenant may not export; nothing is requested.
        typer.BadParameter: there is no such dataset or format; nothing is requested.
    """
    wanted = _one_of(ExportDataset, dataset, "DATASET"), _one_of(ExportFormat, format, "--format")
    async with servers() as connections:
        async with requests.tenants_request(connections.database, tenant, JOB) as session:
            export = await find_export(session, await begin_export(session, *wanted))
        workflow_id = WorkflowId(tenant_id(tenant), JOB, str(export.id))
        problem = None
        if wait:
            _, problem = await wait_for_job(connections, workflow_id, quiet=quiet)
            async with requests.tenants_view(tenant) as session:
                export = await find_export(session, export.id)
        url = connections.link(str(workflow_id))
    document = {**_document(tenant, export), "url": url}
    if wait:
        follow = _next(tenant, export) if problem is None else None
        shown = facts(_facts(tenant, export))
        return Answer(document, lines(shown, follow, where_failed(url, problem)), problem)
    text = f"Export {export.id} of {tenant} is requested."
    follow = quoted(f"exports show {export.id} --tenant {tenant}")
    return Answer(document, lines(text, f"{follow} shows how far it is.", address(url)))


async def show_all(*, tenant: str, limit: int) -> Answer:
    """Lists a tenant's exports that have not expired, the newest first."""
    return await requests.listed(tenant, EXPORTS, limit, columns=_COLUMNS, document=_document)


async def show(identifier: str, *, tenant: str) -> Answer:
    """Shows an export; raises `ExportNotFound`, also for another tenant's."""
    export_id = requests.parsed_id(identifier, "an export")
    async with requests.tenants_view(tenant) as session:
        export = await find_export(session, export_id)
    shown = facts([("export", export.id), *_facts(tenant, export)])
    return Answer(_document(tenant, export), lines(shown, _next(tenant, export)))


async def download(identifier: str, *, tenant: str, to: Path, force: bool) -> Answer:
    """Saves an export's file, whole or not at all.

    Raises:
        ExportNotFound: the tenant does not have the export, or it has expired.
        ExportNotReady: the file has not been written yet.
        StorageFailed: the object storage cannot read the file.
        typer.BadParameter: `to` is a folder or in none, or exists and `force` is not given.
    """
    export_id = requests.parsed_id(identifier, "an export")
    require_free(to, force=force)
    async with requests.tenants_view(tenant) as session:
        export = await find_export(session, export_id)
        pieces = current_storage().open(path_of(export))
        try:
            size, problem = await save(pieces, to, expected=export.bytes, force=force)
        except OSError as error:
            size, problem = 0, Problem(INCOMPLETE, f"{to} cannot be written: {error.strerror}.")
    document = {"id": str(export_id), "tenant_id": tenant, "file": str(to), "bytes": size}
    if problem is not None:
        return Answer({**document, "bytes": 0}, lines(None), problem)
    return Answer(document, f"{to} has {number(size, 'byte')}: {_what(export)} of {tenant}.")


def _one_of(kind: Callable[[str], Any], value: str, hint: str) -> Any:  # a member of the enum
    try:
        return kind(value)
    except ValueError:
        known = [str(member.value) for member in kind]  # type: ignore[attr-defined]
        sentence = f"it is one of {', '.join(known)}.{did_you_mean(value, known)}"
        raise typer.BadParameter(sentence, param_hint=hint) from None


_COLUMNS: Final[Mapping[str, Callable[[Export], object]]] = {
    "export": lambda export: export.id,
    "dataset": lambda export: export.dataset,
    "format": lambda export: export.format,
    "status": lambda export: export.status,
    "rows": lambda export: export.rows,
    "requested": lambda export: minute(export.requested_at),
    "kept until": lambda export: minute(export.expires_at),
}


def _document(tenant: str, export: Export) -> dict[str, Any]:  # JSON
    return {
        "id": str(export.id),
        "tenant_id": tenant,
        "dataset": export.dataset,
        "format": export.format,
        "status": export.status,
        "rows": export.rows,
        "bytes": export.bytes,
        "requested_at": export.requested_at,
        "completed_at": export.completed_at,
        "expires_at": export.expires_at,
        "workflow_id": str(WorkflowId(tenant, JOB, str(export.id))),
    }


def _facts(tenant: str, export: Export) -> list[tuple[str, object]]:
    """Returns what is told of an export besides its id."""
    size = None if export.bytes is None else number(export.bytes, "byte")
    return [
        ("file", f"{_what(export)} of {tenant}"),
        ("status", export.status),
        ("rows", None if export.rows is None else f"{export.rows:,}"),
        ("size", size),
        ("requested", when(export.requested_at)),
        ("completed", when(export.completed_at)),
        ("kept until", minute(export.expires_at)),
    ]


def _what(export: Export) -> str:
    return f"{export.dataset} as {export.format}"


def _next(tenant: str, export: Export) -> str:
    if export.status == RequestStatus.COMPLETED:
        to = f"{export.dataset}.{export.format}"
        saves = quoted(f"exports download {export.id} --tenant {tenant} --to {to}")
        return f"{saves} saves the file."
    return f"{quoted(f'explain {tenant}/{JOB}/{export.id}')} says more about its job."
