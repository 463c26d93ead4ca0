"""The processes of docker-compose.yml, with its commands and variables alone, on real servers.

What has an image of others is not run: their addresses are replaced by those of the tests' servers.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from sqlalchemy import make_url

from dev.devstack.ports import free_ports
from dev.devstack.postgres import DatabaseUrls
from dev.devstack.temporal_part import TemporalPart
from tests.fixtures.starter import Said
from tests.fixtures.warm_programs import WarmProcess, WarmPrograms
from tests.fixtures.worker_process import PATIENCE, ROOT

pytestmark = pytest.mark.schedules

LASTING: Final = ("worker-default", "relay", "web")
LOOK: Final = 0.3  # seconds between two probes, each of which is a program
# What a doctor says of them. Workers of the other queues differ by a word of the command.
WORKING: Final = {
    *("search attributes", "schedules", "relay", "workers of default", "code of workers"),
    *("role tenancy_tenant", "role tenancy_platform", "migrations", "open rights", "redis"),
    *("tenant directory", "running processes"),
}
# What a shell gives every program. Docker gives no more of it.
OUTER: Final = ("PATH", "HOME")


@dataclass
class Container:
    """A service of the file, with this machine's addresses in its command and variables."""

    service: dict[str, Any]
    environ: dict[str, str]

    @property
    def command(self) -> list[str]:
        command: list[str] = self.service["command"]
        return command

    @property
    def grace(self) -> float:
        """How long it may take to end after SIGTERM, in seconds."""
        return float(self.service["stop_grace_period"].removesuffix("s"))

    async def is_healthy(self) -> bool:
        """Runs its health check, as it is written."""
        kind, python, *arguments = self.service["healthcheck"]["test"]
        assert (kind, python) == ("CMD", "python")
        probe = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, env=self.environ, stderr=asyncio.subprocess.DEVNULL
        )
        return await probe.wait() == 0


Compose = Callable[[str], Container]


@pytest.fixture
def compose(
    empty_urls: DatabaseUrls, temporal: TemporalPart, namespace: str, redis_url: str, tmp_path: Path
) -> Compose:
    """Returns a service by its name; each call of it gets other ports."""
    text = (ROOT / "docker-compose.yml").read_text()
    passwords = {
        f"{role.upper()}_PASSWORD": str(make_url(getattr(empty_urls, role)).password)
        for role in ("owner", "tenant", "platform", "relay")
    }
    required = dict.fromkeys(re.findall(r"\$\{(\w+):\?", text), "given")
    given = required | passwords | {"SMTP_URL": "smtp://mail:1025"}
    database = make_url(empty_urls.owner)
    here = {
        "postgres:5432/saas": f"{database.host}:{database.port}/{database.database}",
        "temporal:7233": temporal.address,
        "TEMPORAL_NAMESPACE: default": f"TEMPORAL_NAMESPACE: {namespace}",
        "redis://:given@valkey:6379/0": redis_url,
        "/run/tenant-secrets": str(tmp_path),
        "/run/store-connections": str(tmp_path / "store-connections"),
    }

    def service(name: str) -> Container:
        ports = dict(zip(("8000", "8080", "8081"), map(str, free_ports(3)), strict=True))
        text_here = _interpolated(text, given)
        for there, replaced in here.items():
            assert there in text_here, there
            text_here = text_here.replace(there, replaced)
        for port, free in ports.items():
            text_here = re.sub(rf"\b{port}\b", free, text_here)
        found = yaml.safe_load(text_here)["services"][name]
        outer = {each: os.environ[each] for each in OUTER if each in os.environ}
        # YAML has read an empty default as null.
        variables = {each: str(value or "") for each, value in found["environment"].items()}
        return Container(found, outer | variables)

    return service


def _interpolated(text: str, given: Mapping[str, str]) -> str:
    """Replaces `${NAME…}` as Compose does: by what is given, or by the default after the dash."""

    def value(found: re.Match[str]) -> str:
        name, default = found["name"], found["default"]
        return given.get(name, default or "")

    return re.sub(r"\$\{(?P<name>\w+)(?::?-(?P<default>[^}]*)|:\?[^}]*)\}", value, text)


@pytest.fixture
def start(
    warm_processes: WarmPrograms, tmp_path: Path
) -> Iterator[Callable[[str, Container], WarmProcess]]:
    """Starts a service's command with its variables alone."""
    started: list[WarmProcess] = []

    def run(name: str, container: Container) -> WarmProcess:
        log = tmp_path / f"{name}.log"
        started.append(warm_processes.start(container.command, container.environ, log))
        return started[-1]

    yield run
    for process in started:
        process.kill()


async def test_the_processes_start_are_healthy_work_together_and_end_in_time(
    compose: Compose,
    start: Callable[[str, Container], WarmProcess],
    warm_programs: WarmPrograms,
) -> None:
    async def starter(container: Container, *command: str) -> Said:
        return Said(
            *await asyncio.to_thread(
                warm_programs.run, command or container.command, container.environ
            )
        )

    for name in ("migrate", "schedules"):
        done = await starter(compose(name))
        assert done.code == 0, (name, done.err)
    containers = {name: compose(name) for name in LASTING}
    running = {name: start(name, container) for name, container in containers.items()}
    for name, process in running.items():
        deadline = time.monotonic() + PATIENCE
        while not await containers[name].is_healthy():
            assert process.running, (name, process.log_tail())
            assert time.monotonic() < deadline, (name, process.log_tail())
            await asyncio.sleep(LOOK)
    # "docker compose run --rm worker-default starter.py …", as the file says.
    doctor = await starter(containers["worker-default"], "starter.py", "doctor", "--json")
    verdicts = {check["name"]: check for check in json.loads(doctor.out)["checks"]}
    for name in WORKING:
        assert verdicts[name]["verdict"] == "ok", verdicts[name]
    for process in running.values():
        os.kill(process.pid, signal.SIGTERM)
    for name, process in running.items():
        code = await asyncio.to_thread(process.wait, containers[name].grace)
        assert code == 0, (name, process.log_tail())
