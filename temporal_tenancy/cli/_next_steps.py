"""What an operator can do about a run: commands to paste, and what each does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from temporal_tenancy.cli._commands import command, json_word
from temporal_tenancy.cli._findings import Findings
from temporal_tenancy.control_plane.tables import DeadLetterRow, DeadLetterState, LedgerState
from temporal_tenancy.core.errors import TenantOffboarding
from temporal_tenancy.core.identifiers import WorkflowId
from temporal_tenancy.core.jobs import Job

_NOT_STARTED = (LedgerState.NOT_STARTED, LedgerState.SKIPPED)


@dataclass(frozen=True)
class Step:
    """One step: a command, and the rest of the sentence that it begins."""

    command: str  # empty: a sentence alone
    purpose: str

    def __str__(self) -> str:
        return f"{self.command} {self.purpose}".lstrip()


def next_steps(findings: Findings) -> list[Step]:
    """Returns what to do next, in order; empty if there is nothing to do."""
    parts, job = findings.parts, findings.job
    if parts is None or job is None:
        return []
    if findings.kind == "tenant job":
        return _of_a_tenants_job(findings, parts, job)
    if findings.kind in ("tick", "shard") and findings.tick is not None:
        return _of_a_tick(findings, job, findings.tick)
    return []


def _of_a_tenants_job(findings: Findings, parts: WorkflowId, job: Job) -> list[Step]:
    if findings.is_paused:
        return [Step("", findings.refused or _goes_on(parts.owner))]
    if findings.state == LedgerState.SUCCEEDED and findings.letter is None:
        return []
    if findings.is_stuck_in_its_code:
        return _of_a_stuck_run(findings, parts, job)
    step = _again(findings, parts, job)
    if step is None:
        return []
    if findings.is_a_bug and not _has_left(findings):
        return [Step("", _MEND), step]
    if findings.refused and not findings.was_wrongly_started and not _has_left(findings):
        return [Step("", f"First: {findings.refused}"), step]
    return [step]


_MEND: Final = "First: mend the code, and deploy it."


def _of_a_stuck_run(findings: Findings, parts: WorkflowId, job: Job) -> list[Step]:
    if not findings.is_pinned:
        return [Step("", "Mend the code, and deploy it: the run then goes on.")]
    return [
        Step("", "Mend the code, deploy it, and terminate this run, which stays on its version."),
        Step(_run(findings, parts, job), f"then runs it again, for {parts.owner}."),
    ]


def _again(findings: Findings, parts: WorkflowId, job: Job) -> Step | None:
    """Returns the command that runs a tenant's job again, or None if nothing should."""
    letter = findings.letter
    if letter is not None and _is_due(findings, letter):
        return _of_a_letter(findings, letter)
    if _has_left(findings):
        return None
    if findings.run is None and findings.state in _NOT_STARTED and findings.message is None:
        tick = str((findings.entry or {})["tick"])
        return Step(
            command("ticks", "catch-up", job.name, "--tick", tick, "--wait"),
            f"runs it, for {parts.owner} and every other tenant that the tick missed.",
        )
    if not findings.has_failed or findings.was_wrongly_started:
        return None
    if findings.run is None and job.period is None:
        return None  # nobody remembers its input
    return Step(_run(findings, parts, job), f"runs it again, for {parts.owner}.")


def _is_due(findings: Findings, letter: DeadLetterRow) -> bool:
    """Whether a letter's job has failed and not succeeded since."""
    if letter.status == DeadLetterState.OPEN:
        is_of_another_request = letter.workflow_id != findings.workflow_id
        return findings.run is None or findings.has_failed or is_of_another_request
    return findings.has_failed and findings.run is not None


def _of_a_letter(findings: Findings, letter: DeadLetterRow) -> Step:
    replay = command("dead-letters", "replay", str(letter.id))
    if letter.status == DeadLetterState.DISCARDED:
        return Step(replay, f"runs it again, for {letter.tenant_id}, although it was discarded.")
    if findings.was_wrongly_started:
        return Step(
            command("dead-letters", "discard", str(letter.id)),
            "puts the dead letter away: its input would be refused again.",
        )
    if _has_left(findings):
        return Step(
            command("dead-letters", "discard", str(letter.id)),
            f"puts the dead letter away: {letter.tenant_id} is leaving, and runs the job no more.",
        )
    return Step(replay, f"runs it again, for {letter.tenant_id}.")


def _has_left(findings: Findings) -> bool:
    """Whether the tenant is being offboarded or is deleted, and the job does not run then."""
    return (findings.refused or "").startswith(f"{TenantOffboarding.__name__}: ")


def _run(findings: Findings, parts: WorkflowId, job: Job) -> str:
    fields = {name: value for name, value in findings.input.items() if name != "tenant_id"}
    if job.period is not None and fields.get("period") == parts.key:
        del fields["period"]  # the key names it already
    words = ["run", parts.job, "--tenant", parts.owner, "--key", parts.key]
    if fields:
        words += ["--input", json_word(fields)]
    return command(*words)


def _of_a_tick(findings: Findings, job: Job, tick: str) -> list[Step]:
    some_failed = findings.entry is not None and findings.entry[LedgerState.FAILED]
    if not findings.has_failed and not some_failed:
        return []
    words = ["fan-out", job.name, "--tick", tick]
    if statuses := findings.input.get("statuses"):
        words += ["--where", f"status={','.join(map(str, statuses))}"]
    if extra := findings.input.get("extra"):
        words += ["--input", json_word(extra)]
    again = Step(command(*words, "--wait"), "runs those that have not succeeded.")
    if findings.entry is None:
        return [again]
    show = command("ticks", "show", job.name, "--tick", tick)
    return [Step(show, "names the tenants that failed."), again]


def _goes_on(tenant: str) -> str:
    """Returns what a paused run needs to continue once its tenant is resumed: nothing more."""
    return f"Nothing: {tenant} may run again, and paused activities continue within a minute."
