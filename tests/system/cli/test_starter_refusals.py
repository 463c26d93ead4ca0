"""What starter.py rejects: one sentence, the right exit code, and nothing is started."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import psycopg
import pytest
from temporalio.client import Client

from dev.devstack.postgres import DatabaseUrls, EmbeddedPostgres
from temporal_tenancy.control_plane.tenants import Tenants
from temporal_tenancy.core.directory import TenantStatus
from tests.fixtures.starter import NO_STORES, Batch, Command, Starter

CANARY = "canary-3f1c"
SCHEDULED_TOO = "tests.system.cli.scheduled_too"
AWAY = f"postgresql+psycopg://tenancy_platform:{CANARY}@127.0.0.1:1/saas"
RUN = ("run", "billing.cycle", "--tenant")
ENQUEUE = ("enqueue", "billing.cycle", "--tenant")
PERIOD = '{"period": "2013-04"}'


@dataclass(frozen=True)
class Case:
    code: int
    sentence: str
    arguments: tuple[str, ...]
    variables: dict[str, str | None] = field(default_factory=dict)


CASES = {
    "no tenant": Case(
        2,
        'TenantMissing: the input of billing.cycle names no tenant. Add "--tenant".',
        ("run", "billing.cycle"),
    ),
    "a wildcard": Case(2, "TenantInvalid: '*' is not a tenant id: 1 to 63 of", (*RUN, "*")),
    "a slash": Case(2, "TenantInvalid: 'a/b' is not a tenant id", (*RUN, "a/b")),
    "a blank": Case(2, "TenantInvalid: 'a b' is not a tenant id", (*RUN, "a b")),
    "64 bytes": Case(2, f"TenantInvalid: '{'a' * 64}' is not a tenant id", (*RUN, "a" * 64)),
    "the platform": Case(2, 'TenantInvalid: "platform" is reserved', (*RUN, "platform")),
    "an unknown tenant": Case(2, "TenantUnknown: there is no tenant nobody.", (*RUN, "nobody")),
    "a suspended tenant": Case(2, "TenantSuspended: sleepy is suspended since", (*RUN, "sleepy")),
    "a leaving tenant": Case(
        2, "TenantOffboarding: leaving is being offboarded since", (*RUN, "leaving")
    ),
    "a missing feature": Case(
        2,
        "FeatureNotEnabled: analytics.aggregate needs the feature 'analytics'",
        ("run", "analytics.aggregate", "--tenant", "small"),
    ),
    "two tenants": Case(
        2,
        "TenantMismatch: --tenant names acme, but the input of billing.cycle says small. ",
        (*RUN, "acme", "--input", '{"tenant_id": "small"}'),
    ),
    "an unknown field": Case(
        2,
        "InvalidPayload: the input of billing.cycle does not fit: perio: there is no such field "
        '(the nearest is "period").',
        (*RUN, "acme", "--input", f'{{"perio": "{CANARY}"}}'),
    ),
    "a wrong value": Case(
        2,
        "InvalidPayload: the input of billing.cycle does not fit: period: a period is a "
        "month, written YYYY-MM.",
        (*RUN, "acme", "--input", f'{{"period": "{CANARY}"}}'),
    ),
    "no JSON": Case(
        2,
        "InvalidPayload: the input of billing.cycle is not JSON: ",
        (*RUN, "acme", "--input", f"{{{CANARY}"),
    ),
    "JSON that nests deep": Case(
        2,
        "InvalidPayload: the input of billing.cycle nests deeper than 100 levels.",
        (*RUN, "acme", "--input", f'{{"period": {"[" * 3_000}{"]" * 3_000}}}'),
    ),
    "a number of many digits": Case(
        2,
        "InvalidPayload: the input of billing.cycle has a number of more than 1,000 digits.",
        (*RUN, "acme", "--input", f'{{"period": {"9" * 4_500}}}'),
    ),
    "a number that is none": Case(
        2,
        "InvalidPayload: the input of billing.cycle has a number that is not finite.",
        (*RUN, "acme", "--input", '{"period": NaN}'),
    ),
    "half a surrogate pair": Case(
        2,
        "InvalidPayload: the input of billing.cycle has half a surrogate pair",
        (*RUN, "acme", "--input", r'{"period": "\ud800"}'),
    ),
    "half a pair as the key": Case(
        2,
        "KeyInvalid: a key must be printable text",
        (*RUN, "acme", "--input", PERIOD, "--key", "\udc80"),
    ),
    "a time before the first": Case(
        2,
        "UsageError: Invalid value for --at: a job's time must be after 1969 and before 9999.",
        (*ENQUEUE, "acme", "--input", PERIOD, "--at", "0001-01-01T00:00:00+14:00"),
    ),
    "a time that is too early": Case(
        2,
        "UsageError: Invalid value for --at: a job's time must be after 1969 and before 9999.",
        (*ENQUEUE, "acme", "--input", PERIOD, "--at", "0044-03-15T00:00:00Z"),
    ),
    "no object": Case(
        2,
        "InvalidPayload: the input of billing.cycle is not a JSON object",
        (*RUN, "acme", "--input", "[]"),
    ),
    "an unknown job": Case(
        2, "UnknownJob: 'nope' is not a job. Use one of: ", ("run", "nope", "--tenant", "acme")
    ),
    "the platform's job": Case(
        2,
        "UsageError: Invalid value for JOB: fan_out.tick is a job of the platform",
        ("run", "fan_out.tick", "--tenant", "acme"),
    ),
    "an unknown option": Case(2, "UsageError: No such option: --nope", ("run", "--nope")),
    "a tick that is no period": Case(
        2,
        "InvalidPayload: the input of billing.cycle does not fit",
        ("fan-out", "billing.cycle", "--tick", "2013-13"),
    ),
    "a fan-out for one tenant": Case(
        2,
        "InvalidPayload: the input of billing.cycle names a tenant, but a fan-out runs the job for "
        "every tenant.",
        ("fan-out", "billing.cycle", "--tick", "2013-04", "--input", '{"tenant_id": "acme"}'),
    ),
    "a fan-out of another period": Case(
        2,
        "InvalidPayload: the input of billing.cycle has a period, which a fan-out takes from its",
        ("fan-out", "billing.cycle", "--tick", "2013-04", "--input", PERIOD),
    ),
    "a month that is not over": Case(
        2,
        "PeriodNotOver: 2999-01 is not over in UTC. Run billing.cycle after 2999-02-01 00:00Z; "
        '"starter.py enqueue billing.cycle --tenant acme --key 2999-01 --at 2999-02-01T00:00:00Z" '
        "requests it for then.",
        (*RUN, "acme", "--key", "2999-01"),
    ),
    "a request for a month that is not over": Case(
        2,
        "PeriodNotOver: 2999-01 is not over in UTC.",
        (*ENQUEUE, "acme", "--key", "2999-01", "--at", "2999-01-31T23:59:59Z"),
    ),
    "a fan-out of a month that is not over": Case(
        2,
        "PeriodNotOver: 2999-01 is not over yet. Run billing.cycle from 2999-02-01 on.",
        ("fan-out", "billing.cycle", "--tick", "2999-01"),
    ),
    "a time that the calendar lacks": Case(
        2,
        "UsageError: Invalid value for --at: the calendar has no day 2027-02-30.",
        (*ENQUEUE, "acme", "--input", PERIOD, "--at", "2027-02-30T00:00:00Z"),
    ),
    "a backfill of a day that the calendar lacks": Case(
        2,
        "UsageError: Invalid value for --to: the calendar has no day 2013-02-30.",
        ("schedules", "backfill", "billing.cycle", "--from", "2013-02-02", "--to", "2013-02-30"),
    ),
    "a backfill before 1970": Case(
        2,
        "UsageError: Invalid value for --from: the server starts no tick before 1970.",
        ("schedules", "backfill", "billing.cycle", "--from", "1813-05-01", "--to", "2013-04-01"),
    ),
    "a backfill of many ticks": Case(
        2,
        "UsageError: Invalid value for --from and --to: these are 113 ticks, from 2004-01 to "
        "2013-05, and the next waits until the one before has ended. Add --yes to run them.",
        ("schedules", "backfill", "billing.cycle", "--from", "2004-02-01", "--to", "2013-06-01"),
    ),
    "an unknown filter": Case(
        2,
        "UsageError: Invalid value for --where: ",
        ("fan-out", "billing.cycle", "--where", "plan=free"),
    ),
    "an unknown status": Case(
        2,
        "UsageError: Invalid value: a status is one of trial, active, ",
        ("fan-out", "billing.cycle", "--where", "status=asleep"),
    ),
    "an unknown run": Case(
        2,
        'RunUnknown: there is no run "acme/billing.cycle/1999-01"',
        ("explain", "acme/billing.cycle/1999-01"),
    ),
    "no id at all": Case(2, 'RunUnknown: there is no run "x"', ("explain", "x")),
    "an unknown tick": Case(
        2,
        "TickUnknown: billing.cycle has no tick 1999-01.",
        ("ticks", "show", "billing.cycle", "--tick", "1999-01"),
    ),
    "a schedule that is not there": Case(
        2,
        "ScheduleUnknown: the schedule platform/billing.cycle is not on the server. "
        '"starter.py schedules apply" puts it there.',
        ("schedules", "pause", "billing.cycle"),
    ),
    "a backfill of nothing": Case(
        2,
        "UsageError: Invalid value for --from and --to: no tick of billing.cycle",
        ("schedules", "backfill", "billing.cycle", "--from", "2013-02-02", "--to", "2013-02-03"),
    ),
    "a backfill of dates the wrong way round": Case(
        2,
        "UsageError: Invalid value for --from and --to: 2013-05-01 00:00:00Z is after "
        "2013-04-01 23:59:59Z. Put the earlier time in --from.",
        ("schedules", "backfill", "billing.cycle", "--from", "2013-05-01", "--to", "2013-04-01"),
    ),
    "a tenant that is there": Case(
        2, 'TenantExists: there is already a tenant "acme".', ("tenants", "add", "acme")
    ),
    "a tenant that is there in another case": Case(
        2,
        'TenantExistsInOtherCase: there is already a tenant "acme", and "Acme" differs from it '
        "only by case. Choose another id.",
        ("tenants", "add", "Acme"),
    ),
    "the platform in capitals": Case(
        2, 'TenantInvalid: "PLATFORM" is reserved', ("tenants", "add", "PLATFORM")
    ),
    "a feature that is mistyped": Case(
        2,
        'UsageError: Invalid value for --feature: no job needs the feature "analytic". Did you '
        'mean "analytics"?',
        ("tenants", "add", "other", "--feature", "analytic"),
    ),
    "a name that is blank": Case(
        2,
        "UsageError: Invalid value for --name: a name has at least one character.",
        ("tenants", "add", "other", "--name", " "),
    ),
    "a fan-out of a platform job": Case(
        2,
        "does not run for a single tenant. "
        '"starter.py schedules trigger ticks.reconcile" starts it now.',
        ("fan-out", "ticks.reconcile"),
    ),
    "a message of a mistyped job": Case(
        2,
        "UnknownJob: 'billing.cycl' is not a job. Did you mean \"billing.cycle\"?",
        ("outbox", "cancel", "--tenant", "acme", "--job", "billing.cycl", "--key", "2013-04"),
    ),
    "ticks of a job that has none": Case(
        2,
        'TickUnknown: billing.cycle has no ticks yet. "starter.py fan-out billing.cycle" starts',
        ("ticks", "show", "billing.cycle"),
    ),
    "the id of a dead letter": Case(
        2,
        "If this is the id of a dead letter, "
        '"starter.py dead-letters show 01a20170-afb1-739c-9a3f-e21a747b8c97" shows it',
        ("explain", "01a20170-afb1-739c-9a3f-e21a747b8c97"),
    ),
    "an unknown plan": Case(
        2,
        'PlanUnknown: there is no plan "gold". Use one of: ',
        ("tenants", "add", "other", "--plan", "gold"),
    ),
    "a leaving tenant resumed": Case(
        2, "TenantOffboarding: leaving is offboarding since", ("tenants", "resume", "leaving")
    ),
    "a wrong setting": Case(
        2,
        "ConfigurationError: the environment is invalid: WORKER_HEALTH_PORT: ",
        ("settings",),
        {"WORKER_HEALTH_PORT": CANARY},
    ),
    "a URL of no database": Case(
        2,
        "ConfigurationError: TENANT_DATABASE_URL: a database URL has the form postgresql+psycopg:",
        ("tenants", "list"),
        {"TENANT_DATABASE_URL": "http://x"},
    ),
    "TLS that may be": Case(
        2,
        "ConfigurationError: TEMPORAL_TLS is true or false.",
        ("schedules", "list"),
        {"TEMPORAL_TLS": "maybe"},
    ),
    "a limit of none": Case(
        2,
        "UsageError: Invalid value for '--limit': it must be 1 or more.",
        ("ticks", "list", "--limit", "0"),
    ),
    "a limit that is no number": Case(
        2,
        "UsageError: Invalid value for '--limit': it must be a whole number.",
        ("ticks", "list", "--limit", "many"),
    ),
    "an argument too many": Case(
        2, "UsageError: Too many arguments: b. ", ("tenants", "add", "a", "b")
    ),
    "no database URL": Case(
        3,
        'SettingMissing: PLATFORM_DATABASE_URL is not set. "make dev" starts one; ',
        ("tenants", "list"),
        {"PLATFORM_DATABASE_URL": None},
    ),
    "no database": Case(
        3,
        "NotReachable: PLATFORM_DATABASE_URL: the database 127.0.0.1:1/saas does not answer ",
        (*RUN, "acme"),
        {"PLATFORM_DATABASE_URL": AWAY},
    ),
    "no Temporal server": Case(
        3,
        "NotReachable: the Temporal server 127.0.0.1:1 does not answer: ",
        (*RUN, "acme"),
        {"TEMPORAL_ADDRESS": "127.0.0.1:1"},
    ),
    "no namespace": Case(
        3,
        ' has no namespace "elsewhere". Create it, or set TEMPORAL_NAMESPACE.',
        ("schedules", "list"),
        {"TEMPORAL_NAMESPACE": "elsewhere"},
    ),
    "no owner": Case(3, "SettingMissing: DATABASE_URL is not set. ", ("migrate",)),
}


@pytest.fixture
async def cast(tenants: Tenants) -> None:
    """Tenants in every rejected state, and one that may run."""
    await tenants.add("acme", "Acme", plan="enterprise")
    await tenants.add("small", "Small", plan="free")
    for name, status in (
        ("sleepy", TenantStatus.SUSPENDED),
        ("leaving", TenantStatus.OFFBOARDING),
    ):
        await tenants.add(name, name, plan="free")
        await tenants.set_status(name, status)


async def test_what_is_refused_is_told_in_a_sentence(
    cast: None, batch: Batch, raw_client: Client, namespace: str
) -> None:
    said = await batch(
        [Command((*case.arguments, "--json"), case.variables) for case in CASES.values()]
    )
    for (what, case), answer in zip(CASES.items(), said, strict=True):
        assert answer.code == case.code, (what, answer)
        assert case.sentence in answer.err, (what, answer)
        assert answer.err.count("\n") == 1, (what, answer)
        error = answer.document["error"]
        assert answer.err == f"{error['type']}: {error['message']}\n", what
        assert CANARY not in answer.err, what
    here = await Client.connect(raw_client.service_client.config.target_host, namespace=namespace)
    assert (await here.count_workflows()).count == 0


async def test_without_json_nothing_is_on_standard_output(batch: Batch) -> None:
    case = CASES["an unknown job"]
    (said,) = await batch([Command(case.arguments)])
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(case.sentence)


@pytest.fixture
def unmigrated(postgres: EmbeddedPostgres, migrated_template: str) -> Iterator[DatabaseUrls]:
    """A database without tables, to which the runtime roles may connect."""
    name = "unmigrated_by_starter"
    urls = postgres.create_database(name)
    with psycopg.connect(urls.owner.replace("+psycopg", ""), autocommit=True) as owner:
        owner.execute(f"grant connect on database {name} to tenancy_tenant, tenancy_platform")
    yield urls
    postgres.drop_database(name)


async def test_a_database_is_migrated_once_and_until_then_commands_say_so(
    unmigrated: DatabaseUrls, batch: Batch
) -> None:
    environ: dict[str, str | None] = {
        "TENANT_DATABASE_URL": unmigrated.tenant,
        "PLATFORM_DATABASE_URL": unmigrated.platform,
    }
    owner = {**environ, "DATABASE_URL": unmigrated.owner}
    behind, first, second, after, settings = await batch(
        [
            Command(["tenants", "list", "--json"], environ),
            Command(["migrate", "--json"], owner),
            Command(["migrate", "--json"], owner),
            Command(["tenants", "list", "--json"], environ),
            Command(["settings", "--json"], owner),
        ]
    )
    assert behind.code == 3, behind
    assert behind.err.startswith("MigrationsBehind: the control plane is at its beginning"), behind
    assert '"starter.py migrate" does so, with the owner\'s DATABASE_URL' in behind.err
    assert '"source .devstack/owner.env"' in behind.err
    assert first.document["migrated"] is True, first
    assert second.document == {"migrated": False, "were_behind": [], "stores": NO_STORES}
    assert after.document == []
    assert "tenancy_owner:***@" in settings.document["DATABASE_URL"]
    for said in (first, second, settings):
        for url in (unmigrated.owner, unmigrated.tenant, unmigrated.platform):
            assert url.split(":")[2].split("@")[0] not in said.out + said.err


@pytest.mark.parametrize(
    ("job", "cron", "sentence"),
    [
        ("billing.cycle", "often", 'billing.cycle: CronInvalid: the cron line "often" does not'),
        ("billing.cycle", "0 3 * * 5#1", 'has "5#1" for the day of the week'),
        ("nope.nope", "0 6 1 * *", "the schedule of nope.nope: UnknownJob: "),
    ],
)
async def test_a_wrong_declaration_in_schedules_py_is_refused(
    job: str, cron: str, sentence: str, starter: Starter
) -> None:
    said = await starter("schedules", "apply", program=["-m", SCHEDULED_TOO, job, cron])
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("ConfigurationError: ")
    assert sentence in said.err
