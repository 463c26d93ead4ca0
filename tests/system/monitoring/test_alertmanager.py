"""Alertmanager's configuration is one that it accepts, and names alerts that exist."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from dev.monitoring.files import FOLDER
from dev.monitoring.rules import RULES

CONFIG = FOLDER / "alertmanager.yml"
ROOT = FOLDER.parent


@pytest.fixture
def config() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(CONFIG.read_text())
    return loaded


@pytest.fixture
def accepted(config: dict[str, Any], tmp_path: Path) -> Path:
    """The file without `url_file`, which Debian's Alertmanager 0.25 does not know yet."""
    for receiver in config["receivers"]:
        for webhook in receiver["webhook_configs"]:
            assert webhook.pop("url_file")
            webhook["url"] = "https://alerts.example/hook"
    path = tmp_path / "alertmanager.yml"
    path.write_text(yaml.safe_dump(config))
    return path


def amtool(*arguments: str) -> tuple[int, str]:
    program = shutil.which("amtool")
    if program is None:
        pytest.skip("amtool is not installed (Debian's package prometheus-alertmanager)")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_alertmanager_accepts_the_file(accepted: Path) -> None:
    code, told = amtool("check-config", str(accepted))
    assert code == 0, told


def test_it_refuses_a_receiver_that_does_not_exist(accepted: Path) -> None:
    accepted.write_text(accepted.read_text().replace("receiver: webhook", "receiver: nobody"))
    code, told = amtool("check-config", str(accepted))
    assert code == 1
    assert "nobody" in told


def test_every_alert_reaches_somebody_and_a_page_sooner(config: dict[str, Any]) -> None:
    named = {receiver["name"] for receiver in config["receivers"]}
    assert config["route"]["receiver"] in named
    [page] = config["route"]["routes"]
    assert page["receiver"] in named
    assert {rule.severity for rule in RULES} == {"page", "ticket"}
    assert page["matchers"] == ['severity="page"']


def test_what_is_inhibited_are_alerts_that_exist(config: dict[str, Any]) -> None:
    text = yaml.safe_dump(config["inhibit_rules"])
    names = set(re.findall(r"Tenancy\w+", text))
    assert names <= {rule.name for rule in RULES}
    assert len(names) == 3


def test_the_webhook_is_a_secret_of_the_compose_file(config: dict[str, Any]) -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    [secret] = compose["services"]["alertmanager"]["secrets"]
    for receiver in config["receivers"]:
        for webhook in receiver["webhook_configs"]:
            assert webhook["url_file"] == f"/run/secrets/{secret}"
    [token] = compose["services"]["prometheus"]["secrets"]
    scrape = yaml.safe_load((ROOT / "monitoring" / "prometheus.yml").read_text())["scrape_configs"]
    files = [each["authorization"] for each in scrape if "authorization" in each]
    assert files == [{"credentials_file": f"/run/secrets/{token}"}]
    assert set(compose["secrets"]) == {secret, token}
