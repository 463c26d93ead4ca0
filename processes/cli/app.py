"""Every command with its arguments. What a command does is imported when it is called.

So `--help` and a mistyped option answer at once: the servers' libraries take a second to load.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from processes.cli.answers import drop_output, perform, say
from processes.cli.failures import FAILED, INTERRUPTED, report

app = typer.Typer(
    help="Background jobs of a multi-tenant SaaS: start them, follow them, account for them.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
schedules_app = typer.Typer(help="When jobs run for every tenant.", no_args_is_help=True)
tenants_app = typer.Typer(help="Who the tenants are, and who may run jobs.", no_args_is_help=True)
api_keys_app = typer.Typer(help="Keys by which programs call the HTTP door.", no_args_is_help=True)
ticks_app = typer.Typer(help="The ledger: what became of each tenant.", no_args_is_help=True)
outbox_app = typer.Typer(help="Jobs that were asked for, and wait.", no_args_is_help=True)
app.add_typer(outbox_app, name="outbox")
app.add_typer(schedules_app, name="schedules")
app.add_typer(tenants_app, name="tenants")
app.add_typer(ticks_app, name="ticks")
dead_letters_app = typer.Typer(
    help="What failed for good, and running it again.", no_args_is_help=True
)
app.add_typer(dead_letters_app, name="dead-letters")
app.add_typer(api_keys_app, name="api-keys")
imports_app = typer.Typer(help="Contacts from a CSV file.", no_args_is_help=True)
app.add_typer(imports_app, name="imports")

DATES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%MZ", "%Y-%m-%dT%H:%M:%SZ"]

JobName = Annotated[str, typer.Argument(metavar="JOB", help='Such as "billing.cycle".')]
TenantName = Annotated[str, typer.Argument(metavar="TENANT", help='A tenant id, such as "ua".')]
KeysTenant = Annotated[str, typer.Option("--tenant", metavar="TENANT", help="Whose key it is.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
Input = Annotated[
    str | None, typer.Option("--input", metavar="JSON", help="Fields of the job's input.")
]
Wait = Annotated[bool, typer.Option("--wait", help="Until it has ended.")]
Tick = Annotated[str | None, typer.Option(metavar="KEY", help='A period, such as "2013-04".')]
Reason = Annotated[str | None, typer.Option(metavar="TEXT", help="Kept beside it.")]

Message = Annotated[
    str | None, typer.Argument(metavar="[ID]", help="A message, or else --tenant, --job, --key.")
]
MessagesTenant = Annotated[
    str | None, typer.Option("--tenant", metavar="TENANT", help="Whose message it is.")
]
MessagesJob = Annotated[
    str | None, typer.Option("--job", metavar="JOB", help="What the message asks for.")
]
MessagesKey = Annotated[str | None, typer.Option("--key", metavar="KEY", help="Of its job.")]


def main(arguments: Sequence[str]) -> int:
    """Runs one command and returns its exit code."""
    json = "--json" in arguments
    try:
        result = app(args=list(arguments), prog_name="starter.py", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        result = INTERRUPTED
    except BrokenPipeError:
        drop_output()  # whoever read has gone, as in "… | head"
        return FAILED
    except Exception as error:
        return report(error, json=json, debug="--debug" in arguments)
    if result == INTERRUPTED:  # so typer too answers Ctrl-C in a command
        say("Interrupted: what has been started goes on.")
    return result if isinstance(result, int) else 0


@app.callback()
def options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an unexpected error.")
    ] = False,
) -> None:
    """Background jobs of a multi-tenant SaaS: start them, follow them, account for them."""


@app.command()
def jobs(json: Json = False) -> None:
    """Every job: queue, priority, feature, schedule, and what it takes."""
    from processes.cli import jobs

    perform(jobs.show(), json=json)


@app.command()
def run(
    job: JobName,
    tenant: Annotated[str | None, typer.Option(metavar="TENANT", help="Whose job it is.")] = None,
    given: Input = None,
    key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Of the workflow id. [default: the period, or a UUIDv7]"),
    ] = None,
    wait: Wait = False,
    json: Json = False,
) -> None:
    """Start one tenant's job, unless it has succeeded or is running."""
    from processes.cli import runs

    perform(runs.run(job, tenant=tenant, given=given, key=key, wait=wait, quiet=json), json=json)


@app.command("fan-out")
def fan_out(
    job: JobName,
    tick: Tick = None,
    where: Annotated[
        str | None, typer.Option(metavar="status=…", help='Such as "status=active,trial".')
    ] = None,
    given: Input = None,
    wait: Wait = False,
    json: Json = False,
) -> None:
    """Start a job for every tenant, as its schedule does. Who has succeeded is left alone."""
    from processes.cli import fan_outs

    perform(
        fan_outs.fan_out(job, tick=tick, where=where, given=given, wait=wait, quiet=json),
        json=json,
    )


@app.command()
def explain(
    workflow_id: Annotated[str, typer.Argument(metavar="WORKFLOW_ID")], json: Json = False
) -> None:
    """Say what a run is, whose, where it stands, why it failed and what to do."""
    from processes.cli import explanations

    perform(explanations.explain(workflow_id), json=json)


@app.command()
def enqueue(
    job: JobName,
    tenant: Annotated[str | None, typer.Option(metavar="TENANT", help="Whose job it is.")] = None,
    given: Input = None,
    key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Of the workflow id. [default: the period, or a UUIDv7]"),
    ] = None,
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help='Not before, as "2026-12-24T18:00:00Z".')
    ] = None,
    json: Json = False,
) -> None:
    """Ask for one tenant's job through the outbox; a relay starts it."""
    from processes.cli import outbox

    perform(outbox.ask(job, tenant=tenant, given=given, key=key, at=at), json=json)


@outbox_app.command("list")
def outbox_list(json: Json = False) -> None:
    """What each tenant has waiting, and why."""
    from processes.cli import outbox

    perform(outbox.show(), json=json)


@outbox_app.command("pause")
def outbox_pause(tenant: TenantName, reason: Reason = None, json: Json = False) -> None:
    """Release none of a tenant's messages; what runs goes on."""
    from processes.cli import outbox

    perform(outbox.pause(tenant, reason), json=json)


@outbox_app.command("resume")
def outbox_resume(tenant: TenantName, json: Json = False) -> None:
    """Release a tenant's messages again."""
    from processes.cli import outbox

    perform(outbox.resume(tenant), json=json)


@outbox_app.command("cap")
def outbox_cap(
    tenant: TenantName,
    how_many: Annotated[
        int | None, typer.Argument(metavar="[N]", min=1, help="[default: what its plan says]")
    ] = None,
    json: Json = False,
) -> None:
    """Let so many of a tenant's jobs run at once."""
    from processes.cli import outbox

    perform(outbox.cap(tenant, how_many), json=json)


@outbox_app.command("cancel")
def outbox_cancel(
    message: Message = None,
    tenant: MessagesTenant = None,
    job: MessagesJob = None,
    key: MessagesKey = None,
    json: Json = False,
) -> None:
    """Take a waiting message back, as if it had not been asked for."""
    from processes.cli import outbox

    perform(outbox.cancel(message, tenant=tenant, job=job, key=key), json=json)


@outbox_app.command("reschedule")
def outbox_reschedule(
    at: Annotated[str, typer.Option(metavar="TIME", help='Not before, as "2026-12-24T18:00:00Z".')],
    message: Message = None,
    tenant: MessagesTenant = None,
    job: MessagesJob = None,
    key: MessagesKey = None,
    json: Json = False,
) -> None:
    """Let a waiting message start at another time."""
    from processes.cli import outbox

    perform(outbox.reschedule(message, tenant=tenant, job=job, key=key, at=at), json=json)


@schedules_app.command("apply")
def schedules_apply(json: Json = False) -> None:
    """Put workflows/schedules.py in force. Done twice, it changes nothing; a pause stays."""
    from processes.cli import schedules

    perform(schedules.apply(), json=json)


@schedules_app.command("list")
def schedules_list(json: Json = False) -> None:
    """Next and last runs, and where the server differs from workflows/schedules.py."""
    from processes.cli import schedules

    perform(schedules.show_all(), json=json)


@schedules_app.command("pause")
def schedules_pause(job: JobName, reason: Reason = None, json: Json = False) -> None:
    """Start no further ticks, until it is resumed."""
    from processes.cli import schedules

    perform(schedules.pause(job, reason), json=json)


@schedules_app.command("resume")
def schedules_resume(job: JobName, reason: Reason = None, json: Json = False) -> None:
    """Start ticks again."""
    from processes.cli import schedules

    perform(schedules.resume(job, reason), json=json)


@schedules_app.command("trigger")
def schedules_trigger(job: JobName, json: Json = False) -> None:
    """Start a tick now, for the last whole period."""
    from processes.cli import schedules

    perform(schedules.trigger(job), json=json)


@schedules_app.command("backfill")
def schedules_backfill(
    job: JobName,
    since: Annotated[datetime, typer.Option("--from", formats=DATES, help="UTC, inclusive.")],
    until: Annotated[datetime, typer.Option("--to", formats=DATES, help="UTC, inclusive.")],
    json: Json = False,
) -> None:
    """Run the ticks that were due between two dates, one after the other."""
    from processes.cli import schedules

    perform(schedules.backfill(job, since, until), json=json)


@schedules_app.command("preview")
def schedules_preview(
    hours: Annotated[int, typer.Option(min=1, max=24 * 7, help="How far to look.")] = 24,
    since: Annotated[
        datetime | None,
        typer.Option("--from", formats=DATES, help="UTC. [default: this hour]"),
    ] = None,
    png: Annotated[
        Path | None, typer.Option(metavar="FILE", dir_okay=False, help="Draw it, as PNG.")
    ] = None,
    json: Json = False,
) -> None:
    """How many tenants' jobs will start, and when, with and without spread."""
    from processes.cli import previews

    perform(previews.preview(hours, since, png), json=json)


@tenants_app.command("add")
def tenants_add(
    tenant: TenantName,
    name: Annotated[str | None, typer.Option(help="For people. [default: the id]")] = None,
    plan: Annotated[str, typer.Option(help="Its tier.")] = "standard",
    status: Annotated[str, typer.Option(help="active or trial.")] = "active",
    feature: Annotated[
        list[str] | None, typer.Option(help="Beyond those of the plan; may be repeated.")
    ] = None,
    time_zone: Annotated[str, typer.Option(help="An IANA name.")] = "UTC",
    trial_ends: Annotated[
        str | None, typer.Option(metavar="DATE", help="The trial's last day, where the tenant is.")
    ] = None,
    json: Json = False,
) -> None:
    """Add a tenant."""
    from processes.cli import tenants

    perform(
        tenants.add(
            tenant,
            name=name,
            plan=plan,
            status=status,
            features=feature or [],
            time_zone=time_zone,
            trial_ends=trial_ends,
        ),
        json=json,
    )


@tenants_app.command("list")
def tenants_list(
    status: Annotated[
        str | None, typer.Option(metavar="STATUS,…", help="[default: all but deleted]")
    ] = None,
    json: Json = False,
) -> None:
    """The tenants, in order of their ids."""
    from processes.cli import tenants

    perform(tenants.show_all(status), json=json)


@tenants_app.command("show")
def tenants_show(tenant: TenantName, json: Json = False) -> None:
    """What is known of a tenant."""
    from processes.cli import tenants

    perform(tenants.show(tenant), json=json)


@tenants_app.command("suspend")
def tenants_suspend(tenant: TenantName, reason: Reason = None, json: Json = False) -> None:
    """Let none of a tenant's jobs run, within 5 seconds."""
    from processes.cli import tenants

    perform(tenants.suspend(tenant, reason), json=json)


@tenants_app.command("resume")
def tenants_resume(tenant: TenantName, json: Json = False) -> None:
    """Let a suspended tenant's jobs run again."""
    from processes.cli import tenants

    perform(tenants.resume(tenant), json=json)


@ticks_app.command("list")
def ticks_list(
    job: Annotated[str | None, typer.Argument(metavar="[JOB]")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20,
    json: Json = False,
) -> None:
    """The ticks that began last."""
    from processes.cli import ticks

    perform(ticks.show_all(job, limit), json=json)


@ticks_app.command("show")
def ticks_show(job: JobName, tick: Tick = None, json: Json = False) -> None:
    """What became of each tenant in a tick. [default: the latest]"""
    from processes.cli import ticks

    perform(ticks.show(job, tick), json=json)


@ticks_app.command("missed")
def ticks_missed(
    job: Annotated[str | None, typer.Argument(metavar="[JOB]")] = None,
    tick: Tick = None,
    json: Json = False,
) -> None:
    """Ticks that never began, and tenants who may run and have not had their run."""
    from processes.cli import catch_up

    perform(catch_up.missed(job, tick), json=json)


@ticks_app.command("catch-up")
def ticks_catch_up(
    job: Annotated[str | None, typer.Argument(metavar="[JOB]")] = None,
    tick: Tick = None,
    wait: Wait = False,
    json: Json = False,
) -> None:
    """Run whoever was missed. Who has succeeded is left alone."""
    from processes.cli import catch_up

    perform(catch_up.catch_up(job, tick, wait=wait), json=json)


@api_keys_app.command("create")
def api_keys_create(
    tenant: KeysTenant,
    name: Annotated[str, typer.Option(help="What it is for.")],
    json: Json = False,
) -> None:
    """Make a key, and show it this once."""
    from processes.cli import api_keys

    perform(api_keys.create(tenant, name), json=json)


@api_keys_app.command("list")
def api_keys_list(tenant: KeysTenant, json: Json = False) -> None:
    """A tenant's keys, by their first characters, and when each was used last."""
    from processes.cli import api_keys

    perform(api_keys.show_all(tenant), json=json)


@api_keys_app.command("revoke")
def api_keys_revoke(
    key: Annotated[str, typer.Argument(metavar="ID", help="Of the key, not the key itself.")],
    tenant: KeysTenant,
    json: Json = False,
) -> None:
    """Let nobody in by a key from now on."""
    from processes.cli import api_keys

    perform(api_keys.revoke(tenant, key), json=json)


LetterIds = Annotated[list[str] | None, typer.Argument(metavar="ID")]
OfTenant = Annotated[str | None, typer.Option(metavar="TENANT", help="Of this tenant only.")]
OfJob = Annotated[str | None, typer.Option(metavar="JOB", help="Of this job only.")]
OfKind = Annotated[str | None, typer.Option(metavar="HASH", help="Of this kind only.")]
OlderThan = Annotated[str | None, typer.Option(metavar="AGE", help='Such as "3d" or "12h".')]
NewerThan = Annotated[str | None, typer.Option(metavar="AGE", help='Such as "90m".')]
OfStatus = Annotated[
    str | None, typer.Option(metavar="STATUS", help="open, replayed, resolved or discarded.")
]
By = Annotated[str | None, typer.Option(metavar="NAME", help="Who. [default: this user]")]


@dead_letters_app.command("list")
def dead_letters_list(
    tenant: OfTenant = None,
    job: OfJob = None,
    fingerprint: OfKind = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    status: OfStatus = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many.")] = 1000,
    json: Json = False,
) -> None:
    """The jobs that failed for good, the latest first."""
    from processes.cli import dead_letters

    where = dead_letters.filter_of(
        tenant=tenant,
        job=job,
        fingerprint=fingerprint,
        older_than=older_than,
        newer_than=newer_than,
        status=status,
    )
    perform(dead_letters.show_all(where, limit), json=json)


@dead_letters_app.command("show")
def dead_letters_show(
    letter: Annotated[str, typer.Argument(metavar="ID")],
    tenant: Annotated[str | None, typer.Option(metavar="TENANT", help="Whose it is.")] = None,
    json: Json = False,
) -> None:
    """What is known of one, with the input that its job was given."""
    from processes.cli import dead_letters

    perform(dead_letters.show(letter, tenant), json=json)


@dead_letters_app.command("replay")
def dead_letters_replay(
    ids: LetterIds = None,
    tenant: OfTenant = None,
    job: OfJob = None,
    fingerprint: OfKind = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    status: OfStatus = None,
    canary: Annotated[
        bool, typer.Option("--canary", help="One of each tenant's first, and wait for it.")
    ] = False,
    by: By = None,
    json: Json = False,
) -> None:
    """Start jobs again, each in its own tenant, with its own key and input."""
    from processes.cli import dead_letters, replays

    where = dead_letters.filter_of(
        tenant=tenant,
        job=job,
        fingerprint=fingerprint,
        older_than=older_than,
        newer_than=newer_than,
        status=status,
    )
    perform(replays.start_again(ids or [], where, canary=canary, by=by), json=json)


@dead_letters_app.command("discard")
def dead_letters_discard(
    ids: LetterIds = None,
    tenant: OfTenant = None,
    job: OfJob = None,
    fingerprint: OfKind = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    by: By = None,
    json: Json = False,
) -> None:
    """Put open ones away: they are not run again."""
    from processes.cli import dead_letters

    where = dead_letters.filter_of(
        tenant=tenant,
        job=job,
        fingerprint=fingerprint,
        older_than=older_than,
        newer_than=newer_than,
        status=None,
    )
    perform(dead_letters.discard(ids or [], where, by), json=json)


@imports_app.command("start")
def imports_start(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", exists=True, dir_okay=False, readable=True, help="A header, then rows."
        ),
    ],
    tenant: Annotated[str, typer.Option(metavar="TENANT", help="Whose contacts they are.")],
    encoding: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Of the file's text. [default: as its bytes say]"),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count what it would do, and write no contact.")
    ] = False,
    batch_size: Annotated[
        int | None, typer.Option(metavar="ROWS", help="Rows a transaction. [default: 5000]")
    ] = None,
    wait: Wait = False,
    json: Json = False,
) -> None:
    """Import a file of contacts, by their e-mail addresses."""
    from processes.cli import imports

    perform(
        imports.start(
            file,
            tenant=tenant,
            encoding=encoding,
            dry_run=dry_run,
            batch_size=batch_size,
            wait=wait,
            quiet=json,
        ),
        json=json,
    )


@imports_app.command("show")
def imports_show(
    import_id: Annotated[str, typer.Argument(metavar="ID", help="As start has answered it.")],
    tenant: Annotated[str, typer.Option(metavar="TENANT", help="Whose import it is.")],
    json: Json = False,
) -> None:
    """How far an import is, or what it came to."""
    from processes.cli import imports

    perform(imports.show(import_id, tenant=tenant), json=json)


@app.command()
def doctor(json: Json = False) -> None:
    """Check everything that has to be right; exit code 1 if something is not."""
    from processes.cli import doctor

    perform(doctor.examine(), json=json)


@app.command("settings")
def settings(json: Json = False) -> None:
    """What the environment says, with secrets masked."""
    from processes.cli import environment

    perform(environment.show(), json=json)


@app.command()
def migrate(json: Json = False) -> None:
    """Make the database's roles and tables, as the owner that DATABASE_URL names."""
    from processes.cli import migrations

    perform(migrations.migrate_all(), json=json)
