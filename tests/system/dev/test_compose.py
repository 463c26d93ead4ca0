"""The parts of docker-compose.yml and the Dockerfile that can be checked without Docker."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from dev.devstack.temporal_server import FAIRNESS, SEARCH_ATTRIBUTES
from saas.queues import Queue
from temporal_tenancy.lifecycle import CANCEL_SECONDS

ROOT = Path(__file__).parents[3]
WORKERS = ("worker-critical", "worker-default", "worker-bulk")
OWN_IMAGE = ("migrate", *WORKERS, "relay", "web")
IMPORT_ALL = """
import importlib, pkgutil, processes.cli, temporal_tenancy.cli
for package in processes.cli, temporal_tenancy.cli:
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
"""


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    return services


@pytest.fixture(scope="module")
def dockerfile() -> list[str]:
    return (ROOT / "Dockerfile").read_text().splitlines()


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory, dockerfile: list[str]) -> Path:
    """A folder with only the files that the Dockerfile copies into the image."""
    folder = tmp_path_factory.mktemp("image")
    for line in dockerfile:
        if not line.startswith("COPY ") or "--from=" in line:
            continue
        *sources, target = line.split()[1:]
        for source in sources:
            if (ROOT / source).is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / source, folder / target, ignore=ignored)
            else:
                shutil.copy(ROOT / source, folder / target / source)
    return folder


def run(image: Path, *command: str) -> str:
    """Runs a command of a service in the image's folder."""
    environ = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=image,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_image_is_pinned(services: dict[str, Any], dockerfile: list[str]) -> None:
    named = [service["image"] for service in services.values() if "image" in service]
    bases = [line.split()[1] for line in dockerfile if line.startswith("FROM ")]
    for name in named + bases:
        assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+(\.\d+)?(-[a-z-]+)?", name), name


def test_only_the_migrations_have_the_owners_credentials(services: dict[str, Any]) -> None:
    with_owner = {
        name
        for name, service in services.items()
        if "DATABASE_URL" in service.get("environment", {})
    }
    assert with_owner == {"migrate"}
    for name in set(OWN_IMAGE) - {"migrate"}:
        assert "OWNER_PASSWORD" not in yaml.safe_dump(services[name])


def test_no_password_is_written_down(services: dict[str, Any]) -> None:
    text = yaml.safe_dump(services)
    names = set(re.findall(r"\$\{(\w+)", text))
    assert names == set(re.findall(r"^(\w+)=$", (ROOT / ".env.example").read_text(), re.MULTILINE))
    for url in re.findall(r"postgresql\S*://\S+?:(.*?)@", text.replace("\n", " ")):
        assert url.startswith("${"), url


def test_each_queue_has_workers_of_its_own(services: dict[str, Any]) -> None:
    served = [services[name]["command"] for name in WORKERS]
    assert served == [["worker.py", "--queue", queue] for queue in Queue]
    assert {services[name]["deploy"]["replicas"] for name in WORKERS} == {3}


def test_only_the_relay_and_the_migrations_have_the_relays_credentials(
    services: dict[str, Any],
) -> None:
    having = {name for name in services if "RELAY_PASSWORD" in yaml.safe_dump(services[name])}
    assert having == {"migrate", "relay"}


@pytest.mark.parametrize(
    ("name", "held"),
    [
        *((name, {"TENANT", "PLATFORM", "SMTP"}) for name in WORKERS),
        ("relay", {"RELAY", "SMTP"}),
        ("web", {"TENANT", "PLATFORM", "LINK"}),
        ("migrate", {"OWNER", "TENANT", "PLATFORM", "RELAY"}),
    ],
)
def test_a_process_has_the_credentials_that_it_uses(
    services: dict[str, Any], name: str, held: set[str]
) -> None:
    used = re.findall(r"\$\{(\w+)_(?:PASSWORD|SECRET|URL)", yaml.safe_dump(services[name]))
    assert set(used) == held


@pytest.mark.parametrize("name", WORKERS)
def test_a_worker_waits_for_the_migrations_and_may_finish_its_work(
    services: dict[str, Any], name: str
) -> None:
    worker = services[name]
    assert worker["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
    grace = float(worker["environment"]["WORKER_GRACE_SECONDS"]) + CANCEL_SECONDS
    assert float(worker["stop_grace_period"].removesuffix("s")) > grace
    probe = worker["healthcheck"]["test"][-1]
    assert f":{worker['environment']['WORKER_HEALTH_PORT']}/healthz" in probe
    compile(probe, "healthcheck", "exec")


def test_the_temporal_server_is_set_up_as_the_dev_stacks(services: dict[str, Any]) -> None:
    command = services["temporal"]["command"]
    for name, value in FAIRNESS.items():
        assert f"--dynamic-config-value={name}={value}" in command
    for name, kind in SEARCH_ATTRIBUTES.items():
        assert f"--search-attribute={name}={kind}" in command
    module = (ROOT / "dev/devstack/temporal/go.mod").read_text()
    pinned = re.search(r"temporalio/cli v(\S+)", module)
    assert pinned is not None
    assert services["temporal"]["image"] == f"temporalio/temporal:{pinned[1]}"


@pytest.mark.parametrize("service", OWN_IMAGE)
def test_the_images_commands_run_with_what_it_holds(
    services: dict[str, Any], image: Path, service: str
) -> None:
    assert "Usage" in run(image, *services[service]["command"], "--help")


def test_the_image_holds_what_every_command_imports(image: Path) -> None:
    run(image, "-c", IMPORT_ALL)
    assert not (image / "dev").exists()


def test_the_image_is_built_with_the_uv_of_the_makefile(dockerfile: list[str]) -> None:
    pinned = re.search(r"UV_VERSION := (\S+)", (ROOT / "Makefile").read_text())
    assert pinned is not None
    assert f"ARG UV_VERSION={pinned[1]}" in dockerfile


def test_the_image_does_not_run_as_root(dockerfile: list[str]) -> None:
    assert dockerfile.index("USER app") > dockerfile.index("COPY processes processes")
