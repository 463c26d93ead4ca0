"""The alerting rules fire when they should, and each says what to do."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from typer.main import get_command

from dev.monitoring.dashboards import DASHBOARDS
from dev.monitoring.files import FOLDER, files
from dev.monitoring.rules import BASE, PROGRAM, RULES, Rule
from saas.services.alert_sinks import MailAlerts
from temporal_tenancy.cli import Application, Program, command_line
from temporal_tenancy.dead_letters import Alert
from temporal_tenancy.dead_letters.alert_words import (
    DEAD_LETTERS,
    OLD_MESSAGES,
    RELEASE_HALTED,
    AlertWords,
)
from temporal_tenancy.metrics import CATALOGUE
from tests.fixtures.smtp_server import smtp_server

ROOT = Path(__file__).parents[3]
OWN = (DEAD_LETTERS, OLD_MESSAGES, RELEASE_HALTED)
INTERVAL = "30s"
READ_AT = "https://git.example/saas/blob/main"


class Case(NamedTuple):
    """Series with which a rule fires, and others with which it does not."""

    fires: dict[str, str]
    quiet: dict[str, str]
    summary: str  # of the alert
    labels: dict[str, str] = {}  # of the alert, besides its severity
    at: str = "10m"  # when it fires


LATENCY = "temporal_activity_schedule_to_start_latency_seconds_bucket"
CASES = {
    "TenancyOutboxDeep": Case(
        {
            'tenancy_outbox_messages{instance="a",reason="due"}': "1400x60",
            'tenancy_outbox_messages{instance="a",reason="retry"}': "100x60",
        },
        {
            'tenancy_outbox_messages{instance="a",reason="due"}': "900x60",
            'tenancy_outbox_messages{instance="b",reason="due"}': "900x60",
            'tenancy_outbox_messages{instance="a",reason="paused"}': "9000x60",
        },
        "1500 messages wait in the outbox that nothing holds back.",
    ),
    "TenancyDeadLetterOpen": Case(
        {'tenancy_dead_letters_oldest_seconds{instance="a"}': "5+30x60"},
        {'tenancy_dead_letters_oldest_seconds{instance="a"}': "0x60"},
        "A job has failed permanently, and waits for a person.",
    ),
    "TenancyCriticalSlow": Case(
        {
            f'{LATENCY}{{task_queue="critical",le="0.2"}}': "0x60",
            f'{LATENCY}{{task_queue="critical",le="0.3"}}': "0+10x60",
            f'{LATENCY}{{task_queue="critical",le="+Inf"}}': "0+10x60",
        },
        {
            f'{LATENCY}{{task_queue="critical",le="0.1"}}': "0+10x60",
            f'{LATENCY}{{task_queue="critical",le="+Inf"}}': "0+10x60",
            f'{LATENCY}{{task_queue="bulk",le="0.1"}}': "0x60",
            f'{LATENCY}{{task_queue="bulk",le="+Inf"}}': "0+10x60",
        },
        "1 in 100 activities of the queue critical waits 299ms or more for a worker.",
    ),
    "TenancyTickMissed": Case(
        {'tenancy_ticks_missed{instance="a",job="billing.cycle"}': "2x60"},
        {'tenancy_ticks_missed{instance="a",job="billing.cycle"}': "0x60"},
        "2 ticks of billing.cycle were due and never began.",
        {"job": "billing.cycle"},
    ),
    "TenancyIsolationRefused": Case(
        {
            'tenancy_refusals_total{instance="a",type="TenantMismatch",where="activity"}': (
                "0x10 1x50"
            )
        },
        {
            'tenancy_refusals_total{instance="a",type="TenantMismatch",where="activity"}': "1x60",
            'tenancy_refusals_total{instance="a",type="TenantSuspended",where="activity"}': (
                "0+1x60"
            ),
        },
        "Something tried to cross tenants, and was refused: TenantMismatch, where: activity.",
        {"type": "TenantMismatch", "where": "activity"},
    ),
    "TenancyRelayLag": Case(
        {'tenancy_outbox_oldest_due_seconds{instance="a"}': "90x60"},
        {'tenancy_outbox_oldest_due_seconds{instance="a"}': "50x60"},
        "The oldest message that nothing holds back has been due for 1m 30s.",
    ),
    "TenancyWorkerGone": Case(
        {
            'tenancy_queue_workers{instance="a",kind="workflow",queue="bulk",current="no"}': "0x60",
            'tenancy_queue_workers{instance="b",kind="workflow",queue="bulk",current="yes"}': (
                "0x60"
            ),
        },
        {
            'tenancy_queue_workers{instance="a",kind="workflow",queue="bulk",current="yes"}': (
                "0x60"
            ),
            'tenancy_queue_workers{instance="b",kind="workflow",queue="bulk",current="no"}': "1x60",
        },
        "No worker polls the queue bulk for workflow tasks.",
        {"queue": "bulk", "kind": "workflow"},
    ),
    "TenancyCurrentVersionGone": Case(
        {
            'tenancy_queue_workers{instance="a",kind="workflow",queue="bulk",current="no"}': "2x60",
            'tenancy_queue_workers{instance="a",kind="workflow",queue="bulk",current="yes"}': (
                "0x60"
            ),
        },
        {
            'tenancy_queue_workers{instance="a",kind="workflow",queue="bulk",current="no"}': "2x60",
            'tenancy_queue_workers{instance="a",kind="workflow",queue="bulk",current="yes"}': (
                "1x60"
            ),
            # Without any worker the other rule speaks.
            'tenancy_queue_workers{instance="a",kind="workflow",queue="default",current="no"}': (
                "0x60"
            ),
            'tenancy_queue_workers{instance="a",kind="workflow",queue="default",current="yes"}': (
                "0x60"
            ),
        },
        "No worker of the current version polls the queue bulk for workflow tasks: new runs wait.",
        {"queue": "bulk", "kind": "workflow"},
    ),
    "TenancyCollectedInPart": Case(
        {'tenancy_collected_in_part{instance="a",source="outbox"}': "1x60"},
        {'tenancy_collected_in_part{instance="a",source="outbox"}': "0x60"},
        "The outbox has more rows than are counted: its counts are too low.",
        {"source": "outbox"},
        at="20m",
    ),
    "TenancyRelayGone": Case(
        {'tenancy_collected_timestamp_seconds{instance="a",source="outbox"}': "0x60"},
        {
            'tenancy_collected_timestamp_seconds{instance="a",source="outbox"}': "0x60",
            'tenancy_collected_timestamp_seconds{instance="b",source="outbox"}': "0+30x60",
        },
        "No relay has read the outbox for two minutes.",
    ),
    "TenancyVersionSkew": Case(
        {
            'tenancy_process_info{instance="a",version="1"}': "1x120",
            'tenancy_process_info{instance="b",version="2"}': "1x120",
        },
        {
            'tenancy_process_info{instance="a",version="1"}': "1x120",
            'tenancy_process_info{instance="b",version="1"}': "1x120",
        },
        "Processes of 2 versions have been running side by side for half an hour.",
        at="40m",
    ),
    "TenancyProcessOutOfDate": Case(
        {'tenancy_out_of_date_processes{instance="a",kind="worker",what="migrations"}': "2x60"},
        {'tenancy_out_of_date_processes{instance="a",kind="worker",what="migrations"}': "0x60"},
        "2 processes (worker) are older than the migrations in force.",
        {"kind": "worker", "what": "migrations"},
        at="20m",
    ),
}


def prometheus_program(name: str) -> str:
    """Returns the path of `prometheus` or `promtool`; skips the test where it is not installed."""
    folder = os.environ.get("TEST_PROMETHEUS_BIN")
    found = shutil.which(name, path=folder) if folder else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (Debian's package prometheus)")
    return found


def test_the_files_are_those_of_the_code() -> None:
    for name, text in files().items():
        assert (FOLDER / name).read_text() == text, "run python -m dev.monitoring --write"
    assert {path.name for path in (FOLDER / "dashboards").iterdir()} == {
        f"{board.uid}.json" for board in DASHBOARDS
    }


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_each_rule_has_a_page_that_says_what_to_do(rule: Rule) -> None:
    page = (ROOT / rule.words.runbook).read_text()
    assert page.startswith(f"# {rule.name}\n")
    assert "## What to do" in page
    assert f"`{PROGRAM} {rule.words.command.split()[0]}" in page


def _no_application() -> Application:
    raise AssertionError("nothing is run")


@pytest.mark.parametrize("words", OWN, ids=lambda words: words.title)
def test_the_librarys_own_alerts_have_a_page_and_a_command_that_exist(words: AlertWords) -> None:
    page = (ROOT / words.runbook).read_text()
    assert "## What to do" in page
    assert f"`{PROGRAM} {words.command}" in page
    found: Any = get_command(command_line(Program(load=_no_application)))
    for name in words.command.split():
        found = found.commands[name]


async def test_a_rule_and_the_alert_of_the_same_carry_the_same_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rules = yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"][0]["rules"]
    annotations = {rule["annotations"]["title"]: rule["annotations"] for rule in rules}
    for words in (DEAD_LETTERS, OLD_MESSAGES):
        rule = annotations[words.title]
        with smtp_server() as inbox:
            monkeypatch.setenv("SMTP_URL", inbox.url)
            await MailAlerts("ops@saas.example").send(Alert("x", "so it is.", words=words))
        [mail] = inbox.messages
        lines = dict(
            line.split(": ", 1) for line in mail.get_content().splitlines() if ": " in line
        )
        page = rule["runbook"].removeprefix(BASE)
        assert (lines["title"], lines["runbook"]) == (rule["title"], page)
        assert lines["command"].split()[1:] == rule["command"].split()[1:]


def names_in(expression: str) -> set[str]:
    return {
        name.removesuffix("_bucket") for name in re.findall(r"(?:tenancy|temporal)_\w+", expression)
    }


def test_rules_and_panels_ask_for_metrics_that_exist() -> None:
    known = {each.scraped for each in CATALOGUE}
    asked = {name for rule in RULES for name in names_in(rule.query)}
    for board in DASHBOARDS:
        for panel in json.loads((FOLDER / f"dashboards/{board.uid}.json").read_text())["panels"]:
            for target in panel["targets"]:
                asked |= names_in(target["expr"])
    assert {name for name in asked if name.startswith("tenancy_")} <= known


def test_each_rule_fires_when_it_should_and_only_then(tmp_path: Path) -> None:
    promtool = prometheus_program("promtool")
    assert set(CASES) == {rule.name for rule in RULES}
    tests: list[dict[str, Any]] = []
    for rule in RULES:
        case = CASES[rule.name]
        alert, based = (
            {
                "exp_labels": {"severity": rule.severity, **case.labels},
                "exp_annotations": {
                    "title": rule.words.title,
                    "summary": case.summary,
                    "runbook": f"{base}{rule.words.runbook}",
                    "command": f"{PROGRAM} {rule.words.command}",
                },
            }
            for base in ("", f"{READ_AT}/")
        )
        for series, alerts, labels in (
            (case.fires, [alert], {}),
            (case.fires, [based], {"runbooks": READ_AT}),
            (case.quiet, [], {}),
        ):
            tests.append(
                {
                    "external_labels": labels,
                    "interval": INTERVAL,
                    "input_series": [
                        {"series": name, "values": values} for name, values in series.items()
                    ],
                    "alert_rule_test": [
                        {"eval_time": case.at, "alertname": rule.name, "exp_alerts": alerts}
                    ],
                }
            )
    file = tmp_path / "tests.yml"
    rules = [str(FOLDER / "rules.yml")]
    file.write_text(
        yaml.safe_dump({"rule_files": rules, "evaluation_interval": INTERVAL, "tests": tests})
    )
    done = subprocess.run(
        [promtool, "test", "rules", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
