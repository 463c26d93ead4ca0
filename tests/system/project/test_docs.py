"""The documentation: the names in it exist, and its code runs."""

from __future__ import annotations

import ast
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from typer.main import get_command

from dev.devstack.postgres import DatabaseUrls
from processes.cli.app import app
from temporal_tenancy.cli.tenancy import program_and_commands
from temporal_tenancy.core.jobs import JobPriority, job_of, registry
from temporal_tenancy.everything import everything
from temporal_tenancy.lint.catalogue import CHECKS
from temporal_tenancy.sdk.interceptors._hooks import HOOKS
from temporal_tenancy.ticks.schedules import with_those_of
from tests.mutants.faults import MUTANTS
from workflows import WORKFLOWS
from workflows.schedules import SCHEDULES

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
ENV_OF_ALEMBIC = "myapp/migrations/env.py"  # runs within Alembic alone
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]*)(?:#([^)\s]*))?\)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"(starter\.py|[`$\"] ?tenancy|-m temporal_tenancy)( [^`\n\"|)#]*)")
OF_TENANCY = re.compile(r"^ (--debug|--app \S+)")  # before a command
MAKE = re.compile(r"`make ([a-z]+)`")
PATH = re.compile(r"`((?:[a-z_]+/)*[a-z_]+\.py)(?:::\w+)?`")
TESTS = {path.name for path in (ROOT / "tests").rglob("test_*.py")}

Words = tuple[str, ...]

# In its own process: the samples' jobs are in no other test's registry.
LOAD = """
import importlib, sys
from pathlib import Path

import activities, workflows
from workflows import WORKFLOWS  # the jobs that schedules.py names

folder = Path(sys.argv[1])
for package in (activities, workflows):
    package.__path__.append(str(folder / package.__name__))
for name in sys.argv[2:]:
    importlib.import_module(name)

from temporal_tenancy.ticks.fan_out.workflows import child_input
from temporal_tenancy.core.jobs import registry

job = registry.get_or_raise(job_name)
job.check()
print(child_input(job, "f9", "2013-04", extra).model_dump_json())
"""


def commands(command: object, words: Words = ()) -> Iterator[tuple[Words, set[str]]]:
    """Returns every command below one, by its words, with its options."""
    yield words, {"--help"}.union(*(each.opts for each in getattr(command, "params", ())))
    for name, each in getattr(command, "commands", {}).items():
        yield from commands(each, (*words, name))


COMMANDS = dict(commands(get_command(app)))
OF_THE_LIBRARY = dict(commands(get_command(program_and_commands()[1])))
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(page: Path, language: str) -> list[str]:
    """Returns the fenced code blocks of a language."""
    return [body for kind, body in FENCE.findall(page.read_text()) if kind == language]


def anchors(page: Path) -> set[str]:
    """Returns the anchors of a page, as GitHub names them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


def python_file(block: str) -> str | None:
    """Returns the file that a block claims to be."""
    found = re.match(r"# (\S+\.py)\n", block)
    return found[1] if found else None


@each_page
def test_links_and_pictures_are_there(page: Path) -> None:
    for target, anchor in LINK.findall(page.read_text()):
        if target.startswith(("http:", "https:")):
            continue
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), f"{page.name} points to {target}"
        assert not anchor or anchor in anchors(file), f"{page.name} points to {target}#{anchor}"


def test_every_page_and_picture_is_pointed_to() -> None:
    targets = {
        (page.parent / target).resolve()
        for page in PAGES
        for target, _ in LINK.findall(page.read_text())
        if target
    }
    there = {*PAGES, *(DOCS / "images").iterdir()} - {ROOT / "README.md"}
    assert there <= targets


@each_page
def test_commands_are_there_with_their_options(page: Path) -> None:
    for program, line in COMMAND.findall(page.read_text()):
        known = COMMANDS if program == "starter.py" else OF_THE_LIBRARY
        words = tuple(OF_TENANCY.sub("", line).split())
        command = max((each for each in known if words[: len(each)] == each), key=len)
        rest = words[len(command) :]
        is_group = any(each[:-1] == command for each in known)
        assert not is_group or not rest or rest[0].startswith("-"), f"{program}{line}"
        wrong = {word for word in rest if word.startswith("--")} - known[command]
        assert not wrong, f"{program}{line}"


@each_page
def test_make_targets_and_files_are_there(page: Path) -> None:
    text = page.read_text()
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(MAKE.findall(text)) <= set(targets)
    of_samples = {python_file(block) for block in blocks(page, "python")}
    for path in set(PATH.findall(text)) - of_samples:
        found = (ROOT / path).exists() or (ROOT / "temporal_tenancy" / path).exists()
        assert found or path in TESTS, f"{path} in {page.name}"


def test_numbers_are_those_of_the_code() -> None:
    text = " ".join((DOCS / "explanation" / "isolation.md").read_text().split())
    hooks = sum(len(table) for *_, table in HOOKS)
    assert f"SDK's {hooks} hooks" in text
    assert f"one of the {len(MUTANTS)} has to be found" in text
    assert f"{len(CHECKS)} checks on roles" in text


@pytest.mark.parametrize(
    ("page", "job", "extra", "input"),
    [
        ("docs/how-to/add-a-job.md", "usage.mend", {}, '{"tenant_id":"f9","period":"2013-04"}'),
        ("README.md", "usage.trim", {"keep_days": 9}, '{"tenant_id":"f9","keep_days":9}'),
    ],
)
def test_the_sample_job_is_one(
    page: str, job: str, extra: dict[str, int], input: str, tmp_path: Path
) -> None:
    names = []
    for block in blocks(ROOT / page, "python"):
        file = python_file(block)
        if file is None or file.startswith("myapp/"):  # another application's
            continue
        path = tmp_path / file
        path.parent.mkdir(exist_ok=True)
        path.write_text(block)
        names.append(file.removesuffix(".py").replace("/", "."))
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"job_name, extra = {job!r}, {extra!r}\n{LOAD}",
            str(tmp_path),
            *names,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == f"{input}\n", done.stderr


def test_the_sample_job_is_added_as_shown() -> None:
    [diff] = blocks(DOCS / "how-to" / "add-a-job.md", "diff")
    for part in diff.split("--- ")[1:]:
        file, _, lines = part.partition("\n")
        source = (ROOT / file).read_text()
        shown = lines.splitlines()
        before = "\n".join(line[1:] for line in shown if not line.startswith("+"))
        after = "\n".join(line[1:] for line in shown)
        start, _, end = before.partition("\n\n")
        assert start in source, file
        assert end in source.partition(start)[2], file
        added = [line[1:].strip(" ,") for line in shown if line.startswith("+")]
        assert len(added) == 2
        first, _, second = after.partition("\n\n")
        changed = source.replace(start, first).replace(end, second)
        assert ast.parse(changed)
        assert changed.index(added[0]) < changed.index(f"        {added[1]},")


def test_the_sample_schedules_can_be_applied(tmp_path: Path) -> None:
    [block] = blocks(DOCS / "how-to" / "add-a-schedule.md", "python")
    check = (
        "import workflows; workflows.WORKFLOWS\n"
        f"{block}\n"
        "from temporal_tenancy.ticks.schedules import check_all\n"
        "check_all(SCHEDULES); print(len(SCHEDULES))"
    )
    done = run(check)
    assert done.stdout == "5\n", done.stderr


def test_the_sample_correction_is_a_module() -> None:
    [block] = blocks(DOCS / "how-to" / "a-tenants-job-fails-every-night.md", "python")
    done = run(block.replace('"__main__"', '"run"') + "\nprint(mend.__name__)")
    assert done.stdout == "mend\n", done.stderr


def test_the_samples_of_messages_are_modules() -> None:
    code = "\n".join(blocks(DOCS / "how-to" / "ask-for-a-job.md", "python"))
    alone = re.sub(r"^from (__future__|activities).*$", "", code, flags=re.MULTILINE)
    names = "write_greeting.__name__, write_greetings.__name__"
    done = run(f"from __future__ import annotations\n{alone}\nprint({names})")
    assert done.stdout == "write_greeting write_greetings\n", done.stderr


@pytest.mark.parametrize("page", ["README.md", "docs/how-to/use-the-library.md"])
def test_the_samples_of_another_application_are_modules(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    its_own = ModuleType("myapp")
    its_own.__dict__["jobs"] = ModuleType("myapp.jobs")
    monkeypatch.setitem(sys.modules, "myapp", its_own)
    samples = [
        block
        for block in blocks(ROOT / page, "python")
        if (python_file(block) or "myapp/").startswith("myapp/")
        and python_file(block) != ENV_OF_ALEMBIC
    ]
    assert samples
    for sample in samples:
        path = tmp_path / "sample.py"
        path.write_text(sample)
        runpy.run_path(str(path))


# In its own process: the sample declares the type of the process's tenant ids.
SHOP = """
import asyncio, sys
from uuid import uuid4

sys.path.insert(0, sys.argv[1])
import shop.orders
from temporal_tenancy import Database, TenantInvalid, TenantScope, enter, use_database
from temporal_tenancy.core import MigrationEnvironment
from temporal_tenancy.core.migration_environment import LIBRARY
from temporal_tenancy.lint.catalogue import lint
from temporal_tenancy.postgres import connect, migrate

owner, tenant, platform = sys.argv[2:]
tables = MigrationEnvironment(
    name="shop", script_location="shop:migrations", version_table="shop_version"
)
migrate(owner, tenant_url=tenant, platform_url=platform, application=[tables])
with connect(owner) as connection:
    found = lint(connection, environments=[*LIBRARY, tables])
    print([str(finding) for finding in found if not finding.open])

async def run():
    database = Database(tenant_url=tenant)
    for name in ("0192f0c1-2b4d-7e8f-9abc-def012345678", "0192f0c1-2b4d-7e8f-9abc-def0123456ff"):
        with use_database(database), enter(TenantScope(name)):
            await shop.orders.add("one")
            print(await shop.orders.load([(uuid4(), "a"), (uuid4(), "b")]))
    try:
        TenantScope(name.upper())
    except TenantInvalid as error:
        print(error.type)
    await database.dispose()

asyncio.run(run())
"""


def test_the_samples_of_tables_run(empty_urls: DatabaseUrls, tmp_path: Path) -> None:
    samples = {
        str(python_file(block)): block
        for block in blocks(DOCS / "how-to" / "your-ids-and-tables.md", "python")
    }
    assert len(samples) == 4
    [env] = [
        block
        for block in blocks(DOCS / "how-to" / "use-the-library.md", "python")
        if str(python_file(block)) == ENV_OF_ALEMBIC
    ]
    samples["shop/migrations/env.py"] = env.replace("myapp", "shop")
    for file, sample in samples.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(sample)
    urls = (empty_urls.owner, empty_urls.tenant, empty_urls.platform)
    done = run(SHOP, str(tmp_path), *urls)
    assert done.stdout == "[]\n3\n3\nTenantInvalid\n", done.stderr


def test_the_jobs_of_the_reference_are_those_of_the_code() -> None:
    page = (DOCS / "reference" / "jobs.md").read_text()
    rows = re.findall(r"^\| `([a-z_.]+)` \| ([a-z, ]+) \| (.*?) \| (.*) \|$", page, re.MULTILINE)
    everyone = with_those_of(SCHEDULES, everything())
    crons = {scheduled.job: scheduled.cron for scheduled in everyone}
    for name, queue, when, what in rows:
        job = registry.get_or_raise(name)
        priority = (
            ""
            if job.kind == "platform" or job.priority is JobPriority.NORMAL
            else job.priority.name
        )
        assert queue == ", ".join(filter(None, (job.queue, priority.lower()))), name
        assert when.partition("`, ")[0].strip("`") == crons.get(name, "asked for"), name
        assert (f"(feature `{job.feature}`)" in what) == (job.feature is not None), name
    own = {job.name for job in map(job_of, WORKFLOWS) if job}
    assert {name for name, *_ in rows} == own | set(crons)


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
