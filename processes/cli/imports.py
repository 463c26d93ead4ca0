"""Starts the import of a contacts file by a worker, and follows it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from temporalio.service import RPCError, RPCStatusCode

from processes.cli import requests
from processes.cli.saved_files import INCOMPLETE, require_free, save
from saas.database.contacts import Import, ImportStatus
from saas.requests.imports import JOB, UNSURE
from saas.requests.lists import IMPORTS
from saas.services.object_storage import current_storage
from saas.services.shown import shown
from temporal_tenancy import (
    TenantScope,
    WorkflowId,
    enter,
    registry,
    tenant_id,
    tenant_session,
    use_database,
)
from temporal_tenancy.cli import (
    Answer,
    Problem,
    Servers,
    address,
    err,
    facts,
    lines,
    minute,
    operator,
    say_where,
    servers,
    warn_without_worker,
    when,
    why_stopped,
)
from temporal_tenancy.control_plane import ControlPlaneDirectory
from temporal_tenancy.core import number, require_startable
from temporal_tenancy.postgres import acting_for

PIECE_BYTES: Final = 256 * 1024
LOOK_INTERVAL: Final = 0.5  # seconds
FAILED: Final = "ImportFailed"
CANCELLED: Final = "ImportCancelled"


async def start(
    file: Path,
    *,
    tenant: str,
    encoding: str | None,
    dry_run: bool,
    batch_size: int | None,
    wait: bool,
    quiet: bool,
) -> Answer:
    """Stores a file for `tenant` and requests its import; `wait` waits until the import ends.

    Raises:
        TenancyError: the tenant may not import, or an option is not valid; nothing is stored.
        EncodingUnknown: `encoding` is not an encoding; nothing is stored.
        FileTooLarge, StorageFailed: the file cannot be stored.
    """
    # Imported here: a list needs nothing that reads files.
    from activities.uploads import begin_import, named_encoding

    job = registry[JOB]
    if encoding is not None:
        named_encoding(encoding)
    async with servers() as connections:
        owner = tenant_id(tenant)
        found = await ControlPlaneDirectory(connections.database).find(owner)
        with acting_for(require_startable(owner, found, job), connections.database):
            import_id = await begin_import(
                _pieces(file),
                file_name=file.name,
                started_by=operator(),
                encoding=encoding,
                dry_run=dry_run,
                batch_size=batch_size,
            )
        if wait:
            if not quiet:
                workflow_id = str(WorkflowId(owner, JOB, str(import_id)))
                say_where(workflow_id, "is requested.", connections.link(workflow_id))
            await warn_without_worker(connections.client, job.queue)
            await _follow(connections, owner, import_id, quiet=quiet)
        return await _answer(connections, owner, import_id)


async def show(import_id: str, *, tenant: str) -> Answer:
    """Shows an import's progress or result; raises `ImportNotFound`, also for another tenant's."""
    owner = tenant_id(tenant)
    try:
        wanted = UUID(import_id)
    except ValueError:
        raise typer.BadParameter("an import's id is a UUID.", param_hint="ID") from None
    async with servers() as connections:
        answer = await _answer(connections, owner, wanted)
    # The question was answered, even if the import has failed.
    if answer.problem is None:
        return answer
    document = {**answer.document, "error": vars(answer.problem)}
    return Answer(document, lines(answer.text, str(answer.problem)))


async def show_all(*, tenant: str, limit: int) -> Answer:
    """Lists a tenant's imports, the newest first; asks the database alone."""
    return await requests.listed(
        tenant,
        IMPORTS,
        limit,
        columns=_COLUMNS,
        document=lambda tenant, imported: _document(tenant, imported, imported.status),
    )


async def errors(import_id: str, *, tenant: str, to: Path, force: bool) -> Answer:
    """Saves an import's rejected rows, with line numbers and reasons, whole or not at all.

    Raises:
        ImportNotFound: the tenant does not have the import.
        StorageFailed: the object storage cannot read the file.
        typer.BadParameter: no row was rejected, or the import has not ended; or `to` is a folder
            or in none, or exists and `force` is not given.
    """
    # Imported here: a list needs nothing that reads files.
    from activities.imports import find_import

    wanted = requests.parsed_id(import_id, "an import")
    require_free(to, force=force)
    async with requests.tenants_view(tenant) as session:
        imported = await find_import(session, wanted)
        if imported.error_file is None:
            raise typer.BadParameter(
                f"import {wanted} has no file of rejected rows: it has not ended, or "
                "rejected none.",
                param_hint="ID",
            )
        pieces = current_storage().open(imported.error_file)
        try:
            size, problem = await save(pieces, to, expected=None, force=force)
        except OSError as error:
            size, problem = 0, Problem(INCOMPLETE, f"{to} cannot be written: {error.strerror}.")
    document = {"id": str(wanted), "tenant_id": tenant, "file": str(to), "bytes": size}
    if problem is not None:
        return Answer({**document, "bytes": 0}, lines(None), problem)
    rows = number(imported.rejected, "rejected row")
    return Answer(document, f"{to} has {rows} of {imported.file_name}.")


async def cancel(import_id: str, *, tenant: str) -> Answer:
    """Cancels an import, which ends after the batch being written; imported rows stay.

    Raises:
        ImportNotFound: the tenant does not have the import.
        typer.BadParameter: it has ended.
    """
    from activities.imports import cancel_waiting

    owner, wanted = tenant_id(tenant), requests.parsed_id(import_id, "an import")
    async with servers() as connections:
        imported = await _kept(connections, owner, wanted)
        if imported.status != ImportStatus.PROCESSING:
            raise typer.BadParameter(f"this import is already {imported.status}.", param_hint="ID")
        workflow_id = str(WorkflowId(owner, JOB, str(wanted)))
        try:
            await connections.client.get_workflow_handle(workflow_id).cancel()
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            with use_database(connections.database), enter(TenantScope(owner)):
                await cancel_waiting(wanted)
        status = (await _kept(connections, owner, wanted)).status
    document = {"id": str(wanted), "tenant_id": owner, "status": status}
    text = (
        f"Import {wanted} of {owner} is cancelled."
        if status == ImportStatus.CANCELLED
        else f"Import {wanted} of {owner} ends after the batch that is being written."
    )
    return Answer(document, text)


_COLUMNS: Final[Mapping[str, Callable[[Import], object]]] = {
    "import": lambda imported: imported.id,
    "file": lambda imported: imported.file_name,
    "status": lambda imported: f"{imported.status}{' (dry run)' if imported.dry_run else ''}",
    "rows": lambda imported: imported.rows,
    "imported": lambda imported: imported.imported,
    "updated": lambda imported: imported.updated,
    "rejected": lambda imported: imported.rejected,
    "started": lambda imported: minute(imported.created_at),
}


async def _follow(connections: Servers, tenant: str, import_id: UUID, *, quiet: bool) -> None:
    """Waits until the import has ended, or its job has stopped without recording an end."""
    shown = err.is_terminal and not quiet
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[notes]}"),
        TimeRemainingColumn(),
        console=err,
        transient=True,
        disable=not shown,
    ) as progress:
        bar = progress.add_task("importing", total=None, notes="")
        while True:
            imported = await _kept(connections, tenant, import_id)
            notes = f"{number(imported.rows, 'row')}, {imported.rejected:,} rejected"
            progress.update(bar, total=imported.size or 1, completed=imported.position, notes=notes)
            if imported.status != ImportStatus.PROCESSING:
                return
            if await _trouble(connections, tenant, import_id) is not None:
                return
            await asyncio.sleep(LOOK_INTERVAL)


async def _answer(connections: Servers, tenant: str, import_id: UUID) -> Answer:
    imported = await _kept(connections, tenant, import_id)
    problem: Problem | None = None
    if imported.status == ImportStatus.PROCESSING:
        problem = await _trouble(connections, tenant, import_id)
        # The import may have ended between the two reads.
        imported = await _kept(connections, tenant, import_id)
    if imported.status != ImportStatus.PROCESSING:
        problem = _problem(imported)
    gave_up = problem is not None and problem.type == FAILED
    status = ImportStatus.FAILED if gave_up else imported.status
    workflow_id = str(WorkflowId(tenant, JOB, str(import_id)))
    url = connections.link(workflow_id)
    document = {**_document(tenant, imported, status), "url": url}
    text = facts(
        [
            ("import", f"{import_id}{' (dry run)' if imported.dry_run else ''}"),
            ("file", f"{imported.file_name} of {tenant}"),
            ("status", f"{status}, {_part(imported):.0%} of the file has been read"),
            ("read as", _read_as(imported)),
            ("rows", f"{imported.rows:,}"),
            ("imported", f"{imported.imported:,}"),
            ("updated", f"{imported.updated:,}"),
            ("rejected", f"{imported.rejected:,}"),
            ("error file", imported.error_file),
            ("started", f"{when(imported.created_at)} by {imported.started_by}"),
            ("ended", when(imported.ended_at)),
        ]
    )
    return Answer(document, lines(text, address(url)), problem)


def _document(tenant: str, imported: Import, status: str) -> dict[str, Any]:  # JSON
    return {
        "id": str(imported.id),
        "tenant_id": tenant,
        "status": status,
        "rows": imported.rows,
        "imported": imported.imported,
        "updated": imported.updated,
        "rejected": imported.rejected,
        "error_file": imported.error_file,
        "file_name": imported.file_name,
        "dry_run": imported.dry_run,
        "encoding": None if imported.encoding == UNSURE else imported.encoding,
        "encoding_by": imported.encoding_by,
        "candidates": imported.candidates,
        "delimiter": imported.delimiter and imported.delimiter[0],
        "error_type": imported.error_type,
        "progress": _part(imported),
        "started_by": imported.started_by,
        "created_at": imported.created_at,
        "ended_at": imported.ended_at,
        "workflow_id": str(WorkflowId(tenant, JOB, str(imported.id))),
    }


def _read_as(imported: Import) -> str | None:
    if imported.encoding == UNSURE:
        return None
    from saas.services.encodings import Because

    sure: dict[str, str] = {
        Because.NAMED: "as its sender says",
        Because.MARK: "by its byte order mark",
        Because.BYTES: "by its bytes",
        Because.DETECTED: "detected: nothing else makes as much sense of it",
    }
    by = sure.get(imported.encoding_by or "")
    cells = f', cells separated by "{shown(imported.delimiter[0])}"' if imported.delimiter else ""
    return f"{imported.encoding}{f' ({by})' if by else ''}{cells}"


def _problem(imported: Import) -> Problem | None:
    if imported.status == ImportStatus.FAILED:
        from saas.services.csv_files import EncodingUnsure

        kind = EncodingUnsure.__name__
        return Problem(
            kind if imported.error_type == kind else FAILED,
            imported.error or "it does not say why.",
        )
    if imported.status == ImportStatus.CANCELLED:
        return Problem(CANCELLED, "it was cancelled; what was imported until then stays.")
    return None


async def _trouble(connections: Servers, tenant: str, import_id: UUID) -> Problem | None:
    """Returns why an unfinished import has stopped, for example that its run was terminated."""
    why = await why_stopped(connections, WorkflowId(tenant, JOB, str(import_id)))
    return None if why is None else Problem(FAILED, why)


async def _kept(connections: Servers, tenant: str, import_id: UUID) -> Import:
    from activities.imports import find_import

    with use_database(connections.database), enter(TenantScope(tenant)):
        async with tenant_session() as session:
            return await find_import(session, import_id)


def _part(imported: Import) -> float:
    """Returns how much of the file has been read, 0 to 1."""
    return round(min(imported.position / imported.size, 1.0), 4) if imported.size else 1.0


async def _pieces(file: Path) -> AsyncIterator[bytes]:
    with file.open("rb") as opened:
        read: Callable[[int], bytes] = opened.read
        while piece := await asyncio.to_thread(read, PIECE_BYTES):
            yield piece
