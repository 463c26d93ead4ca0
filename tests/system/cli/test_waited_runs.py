"""Who waits for a run is told once which it is, as the waiting begins.

Every command of starter.py with `--wait` is in the table.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import quote

import pytest
from temporalio.client import Client

from saas.queues import Queue
from temporal_tenancy.dead_letters import letters
from temporal_tenancy.dead_letters.letters import Filter
from temporal_tenancy.outbox.relay.relay import Relay
from temporal_tenancy.postgres.database import Database
from tests.fixtures.relay import running
from tests.fixtures.saas import saas_worker
from tests.fixtures.starter import STARTER, UI, Starter
from tests.fixtures.warm_programs import WarmProcess, WarmPrograms
from tests.held_names.commands import each_command
from tests.system.cli.test_starter_dead_letters import put_letters
from tests.system.cli.test_starter_requests import (  # noqa: F401  # fixtures
    APRIL,
    CONTACTS,
    TOKEN,
    airlines,
    folder,
    partner,
)

BEGUN = 60.0  # seconds until a command waits, on a busy machine
ENDED = 120.0  # seconds until a command has ended, once workers run
UUID = "[0-9a-f-]{36}"

# By the command's words: its arguments, and a pattern of the ids of the runs that it waits for.
WAITING: Mapping[str, tuple[str, str]] = {
    "run": ("billing.cycle --tenant acme --key 2013-04", "acme/billing[.]cycle/2013-04"),
    "fan-out": ("billing.cycle --tick 2013-03", "platform/billing[.]cycle/tick-2013-03"),
    "ticks catch-up": (
        "billing.cycle --tick 2013-02",
        "platform/billing[.]cycle/tick-2013-02",
    ),
    "dead-letters replay": ("{letter}", "acme/billing[.]cycle/2013-01"),
    "imports start": ("{file} --tenant acme", f"acme/contacts[.]import/{UUID}"),
    "exports start": ("contacts --tenant acme", f"acme/exports[.]generate/{UUID}"),
    "reports start": (
        f"usage.by_route --tenant acme --input {APRIL.replace(' ', '')}",
        f"acme/reports[.]generate/{UUID}",
    ),
    "integrations sync": ("crm --tenant acme", "acme/integrations[.]sync/.+?"),
}


def test_every_command_that_waits_is_in_the_table() -> None:
    waits = {
        words.removeprefix("starter.py ")
        for words, command in each_command()
        if any("--wait" in given.opts for given in command.params)
    }
    assert waits == set(WAITING)


@pytest.fixture
async def arguments(
    airlines: None,  # noqa: F811
    folder: Path,  # noqa: F811
    partner: tuple[str, list[str]],  # noqa: F811
    database: Database,
    starter: Starter,
) -> dict[str, list[str]]:
    """Each command's words and arguments; what they name exists."""
    (folder / "contacts.csv").write_text(CONTACTS)
    (folder / "token").write_text(TOKEN)
    made = await starter(
        *("integrations", "set", "crm", "--tenant", "acme", "--url", partner[0]),
        *("--credential-file", str(folder / "token")),
    )
    assert made.code == 0, made.err
    await put_letters(database, "acme", ["2013-01"], "usage events of acme are not billable")
    async with database.platform_session("test") as session:
        [letter] = await letters.latest(session, Filter(), limit=2)
    named = {"letter": str(letter.id), "file": str(folder / "contacts.csv")}
    return {
        words: [*words.split(), *(_filled(word, named) for word in more.split())]
        for words, (more, _) in WAITING.items()
    }


def _filled(word: str, named: Mapping[str, str]) -> str:
    return named.get(word.removeprefix("{").removesuffix("}"), word)


async def test_a_run_is_named_once_before_it_is_waited_for(
    saas: Client,
    make_relay: Callable[..., Relay],
    arguments: dict[str, list[str]],
    starter: Starter,
    starter_environ: dict[str, str],
    warm_programs: WarmPrograms,
    tmp_path: Path,
) -> None:
    started = {
        words: await asyncio.to_thread(
            warm_programs.start,
            [STARTER, *command, "--wait"],
            starter_environ,
            tmp_path / words.replace(" ", "-"),
        )
        for words, command in arguments.items()
    }
    try:
        for words, process in started.items():
            await asyncio.to_thread(_until_it_waits, words, process)
        async with AsyncExitStack() as stack:
            for queue in Queue:
                await stack.enter_async_context(saas_worker(saas, task_queue=queue))
            await stack.enter_async_context(running(make_relay()))
            for words, process in started.items():
                code = await asyncio.to_thread(process.wait, ENDED)
                _check(words, code, process.log.read_text())
            # The document has both; nothing else is on standard output.
            for words, command in arguments.items():
                said = await starter(*command, "--wait", "--json")
                assert said.code == 0, (words, said)
                assert isinstance(json.loads(said.out), dict), words
    finally:
        for process in started.values():
            process.kill()


def _until_it_waits(words: str, process: WarmProcess) -> None:
    """Waits for what a command says while no worker runs, after the run itself."""
    until = time.monotonic() + BEGUN
    while process.running and "Waiting: no worker serves" not in process.log.read_text():
        assert time.monotonic() < until, (words, process.log.read_text())
        threading.Event().wait(0.05)
    said = process.log.read_text()
    first, *others = said.splitlines() or [""]
    workflow_id = WAITING[words][1]
    begins = rf"{workflow_id} (has started|is requested)\. {re.escape(UI)}\S+"
    assert re.fullmatch(begins, first), (words, said)
    assert quote(first.split()[0], safe="") in first, words
    assert [line for line in others if line.startswith("Waiting")] == others, (words, said)


def _check(words: str, code: int, said: str) -> None:
    first, *others = said.splitlines()
    assert code == 0, (words, said)
    told = [line for line in others if not line.startswith("Waiting")]
    assert told, words  # how it has ended
    workflow_id = first.split()[0]
    key = workflow_id.rpartition("/")[2]
    for line in told:
        assert workflow_id not in line, (words, said)
        assert UI not in line, (words, said)
        # But in a command to copy, which takes the id alone.
        bare = re.sub(r'"starter\.py [^"]+"', "", line)
        assert words in ("run", "integrations sync") or key not in bare, (words, said)
