"""The parts of docker-compose.yml and the Dockerfile that can be checked without Docker."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from dev.devstack.temporal_server import FAIRNESS, SEARCH_ATTRIBUTES
from saas.queues import Queue
from saas.settings import Settings
from temporal_tenancy.lifecycle import CANCEL_SECONDS
from temporal_tenancy.outbox.relay.connections import CONNECTIONS as RELAY_CONNECTIONS
from temporal_tenancy.postgres.database import PLATFORM_POOL
from tests.fixtures.deploy_programs import run_program

ROOT = Path(__file__).parents[3]
WORKERS = ("worker-critical", "worker-default", "worker-bulk")
OWN_IMAGE = ("migrate", "schedules", *WORKERS, "relay", "web")
ONCE = {
    *("folders", "migrate", "schedules"),
    *("temporal-database", "temporal-schema", "temporal-namespace"),
}
# By service: the volume whose folder its image has, which belongs to the user that writes. Docker
# gives an empty volume the owner of that folder, and makes it for root where the image has none.
FOLDER_OF_IMAGE = {
    "postgres": "/var/lib/postgresql",
    "prometheus": "/prometheus",
    "alertmanager": "/alertmanager",
    "grafana": "/var/lib/grafana",
}
PUBLISHED = {"web", "temporal-ui", "mail", "prometheus", "alertmanager", "grafana"}
# Settings that nobody needs to set, and why: the Dockerfile sets LOG_FORMAT; traces have an
# endpoint; whoever gives tenants databases of their own mounts a folder with their connections;
# there is no pooler; the rest are limits and intervals.
DEFAULT_IS_RIGHT = "|".join(
    (
        *("LOG_FORMAT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "DRAIN_DELAY_SECONDS"),
        "RELAY_LISTEN_DATABASE_URL",
        *("METRICS_COLLECT_SECONDS", "METRICS_TENANTS", "RELAY_ATTEMPTS", "RELAY_BACKOFF"),
        r"RELAY_STORE_\w+",
        *(r"TENANT_(POOL_SIZE|POOL_RESERVED|\w+_TIMEOUT)", r"WEB_\w+_(SECONDS|MAX|MAX_BYTES|RATE)"),
        *(r"WEB_(CONNECTIONS|REQUESTS|UPLOADS|STREAMS|WEBHOOKS)\w*", "WEB_KEY_FAILURES_PER_MINUTE"),
    )
)
# One machine replaces its workers: it has no versions.
LEFT_OUT = {"docker-compose.yml": {"WORKER_DEPLOYMENT_NAME", "WORKER_BUILD_ID"}}
TEMPORAL = ROOT / "deploy" / "temporal"
TEMPORAL_CONNECTIONS = 4 * (20 + 10)  # its image's defaults: four services, each to two databases
# Runs commands one after another as Python would, so that what they share is imported once; then
# imports every module of the command lines. Prints the exit code and the output of each command.
RUN_EACH = """
import contextlib, importlib, io, json, os, pkgutil, runpy, sys
answers, os._exit = [], sys.exit
for command in json.loads(sys.stdin.read()):
    program, *sys.argv[1:] = command[command[0] == "-m":]
    said, code = io.StringIO(), 0
    with contextlib.redirect_stdout(said):
        try:
            if command[0] == "-m":
                runpy.run_module(program, run_name="__main__", alter_sys=True)
            else:
                runpy.run_path(program, run_name="__main__")
        except SystemExit as exit:
            code = exit.code or 0
    answers.append([code, said.getvalue()])
import processes.cli, temporal_tenancy.cli
for package in processes.cli, temporal_tenancy.cli:
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    compose: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return compose


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, Any]:
    services: dict[str, Any] = compose["services"]
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


def run(image: Path, *command: str, stdin: str = "") -> str:
    """Runs Python in the image's folder."""
    environ = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=image,
        env=environ,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def faults_of_compose() -> Callable[[object], list[str]]:
    """Returns how a file differs from the schema of compose files, which check-jsonschema holds."""
    jsonschema = pytest.importorskip("jsonschema", reason="the group deploy is not installed")
    vendored = pytest.importorskip("check_jsonschema", reason="the group deploy is not installed")
    folder = Path(vendored.__file__).parent / "builtin_schemas" / "vendor"
    validator = jsonschema.Draft7Validator(json.loads((folder / "compose-spec.json").read_text()))
    return lambda file: [error.message for error in validator.iter_errors(file)]


def test_the_file_fits_the_schema_of_compose(
    compose: dict[str, Any], faults_of_compose: Callable[[object], list[str]]
) -> None:
    assert faults_of_compose(compose) == []
    assert faults_of_compose(compose | {"volumes": ["storage"]}) != []


def test_the_dockerfile_has_no_fault_that_a_linter_knows() -> None:
    code, told = run_program("hadolint", str(ROOT / "Dockerfile"))
    assert (code, told) == (0, "")


def test_the_linter_finds_a_fault() -> None:
    code, told = run_program("hadolint", "-", stdin="FROM python\nRUN cd /tmp\n")
    assert code == 1
    assert "DL3006" in told


def test_a_container_may_do_little(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in service, name
        assert service["read_only"] is True, name
        if name == "folders":  # it gives folders to another user, and can do nothing else
            assert (service["cap_add"], service["user"]) == (["CHOWN"], "root")
            assert service["network_mode"] == "none"
        else:
            assert "cap_add" not in service or name == "postgres"
            assert service.get("user") != "root", name


def test_each_service_has_limits_and_tells_its_health(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert {"max-size", "max-file"} == set(service["logging"]["options"]), name
        assert {"cpus", "memory", "pids"} == set(service["deploy"]["resources"]["limits"]), name
        assert ("healthcheck" in service) is (name not in ONCE), name
        assert service["restart"] == ("on-failure:5" if name in ONCE else "unless-stopped"), name


def test_what_ends_by_itself_is_waited_for_until_it_has_succeeded(
    services: dict[str, Any],
) -> None:
    waited_for = {
        (awaited, how["condition"])
        for service in services.values()
        for awaited, how in service.get("depends_on", {}).items()
    }
    for name, condition in waited_for:
        ends = "service_completed_successfully" if name in ONCE else "service_healthy"
        assert condition == ends, name
    assert {name for name, _ in waited_for} >= ONCE


def test_only_what_people_open_is_published_and_only_on_this_machine(
    compose: dict[str, Any],
) -> None:
    published = {name for name, each in compose["services"].items() if "ports" in each}
    assert published == PUBLISHED
    for name in published:
        for port in compose["services"][name]["ports"]:
            assert port.startswith("127.0.0.1:"), name
    inner = {name for name, network in compose["networks"].items() if network.get("internal")}
    assert set(compose["networks"]) - inner == {"outside"}


def test_a_service_shares_networks_only_with_those_it_talks_to(services: dict[str, Any]) -> None:
    inside: dict[str, set[str]] = {}
    for name, service in services.items():
        for network in service.get("networks", ()):
            inside.setdefault(network, set()).add(name)
    asking = {*WORKERS, "relay", "web"}
    assert inside == {
        "data": {
            *asking,
            *("postgres", "migrate", "temporal", "temporal-database", "temporal-schema"),
        },
        "temporal": {*asking, *("temporal", "temporal-namespace", "temporal-ui", "schedules")},
        "storage": {*WORKERS, "web", "storage"},
        "shared": {*WORKERS, "web", "valkey"},
        "monitoring": {*asking, "temporal", "prometheus", "alertmanager", "grafana"},
        "outside": {*asking, *PUBLISHED},
    }


def test_the_servers_of_temporal_are_of_one_release(services: dict[str, Any]) -> None:
    module = (ROOT / "dev/devstack/temporal/go.mod").read_text()
    pinned = dict(re.findall(r"(go.temporal.io/server|temporalio/ui-server/v2) v(\S+)", module))
    server, ui = pinned["go.temporal.io/server"], pinned["temporalio/ui-server/v2"]
    assert services["temporal"]["image"] == f"temporalio/server:{server}"
    assert services["temporal-ui"]["image"] == f"temporalio/ui:{ui}"
    for name in ("temporal-schema", "temporal-namespace"):
        assert services[name]["image"] == f"temporalio/admin-tools:{server}"


def test_the_connections_fit_into_postgresql(services: dict[str, Any]) -> None:
    setting = services["postgres"]["command"][-1]
    allowed = int(setting.removeprefix("max_connections="))
    settings = Settings.model_fields
    each = settings["tenant_pool_size"].default + PLATFORM_POOL.size
    asking = sum(services[name]["deploy"]["replicas"] for name in WORKERS) + 1  # and web
    relays = services["relay"]["deploy"]["replicas"] * (
        RELAY_CONNECTIONS + 1
    )  # and one that listens
    assert asking * each + relays + TEMPORAL_CONNECTIONS < allowed * 0.9


def test_every_image_is_pinned(services: dict[str, Any], dockerfile: list[str]) -> None:
    named = [service["image"] for service in services.values() if "image" in service]
    bases = {line.split()[1] for line in dockerfile if line.startswith("FROM ")}
    assert bases == {"${PYTHON_IMAGE}"}
    default = [line for line in dockerfile if line.startswith("ARG PYTHON_IMAGE=")]
    for name in [*named, *(line.partition("=")[2] for line in default)]:
        assert re.fullmatch(r"[a-z/-]+:v?\d+\.\d+(\.\d+)?(-[a-z-]+)?", name), name


def test_only_the_migrations_have_the_owners_credentials(services: dict[str, Any]) -> None:
    with_owner = {
        name
        for name, service in services.items()
        if "DATABASE_URL" in service.get("environment", {})
    }
    assert with_owner == {"migrate"}
    for name in set(services) - {"migrate", "postgres", "temporal-database"}:
        assert "OWNER_PASSWORD" not in yaml.safe_dump(services[name])


def test_no_password_is_written_down(services: dict[str, Any]) -> None:
    text = yaml.safe_dump(services)
    names = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))
    assert names == set(re.findall(r"^(\w+)=$", (ROOT / ".env.example").read_text(), re.MULTILINE))
    for url in re.findall(r"postgresql\S*://\S+?:(.*?)@", text.replace("\n", " ")):
        assert url.startswith("${"), url


def test_each_queue_has_workers_of_its_own(services: dict[str, Any]) -> None:
    served = [services[name]["command"] for name in WORKERS]
    assert served == [["worker.py", "--queue", queue] for queue in Queue]
    assert {services[name]["deploy"]["replicas"] for name in WORKERS} == {3}
    # So that a test of one is a test of each.
    alone = [{**services[name], "command": None} for name in WORKERS]
    assert alone == alone[:1] * len(WORKERS)


def test_only_the_relay_and_the_migrations_have_the_relays_credentials(
    services: dict[str, Any],
) -> None:
    having = {name for name in services if "RELAY_PASSWORD" in yaml.safe_dump(services[name])}
    assert having == {"migrate", "relay"}


@pytest.mark.parametrize(
    ("name", "held"),
    [
        *(
            (name, {"TENANT", "PLATFORM", "STORAGE", "REDIS", "SMTP", "ALERT_WEBHOOK"})
            for name in WORKERS
        ),
        ("relay", {"RELAY", "SMTP", "ALERT_WEBHOOK"}),
        ("web", {"TENANT", "PLATFORM", "STORAGE", "REDIS", "LINK"}),
        ("valkey", {"REDIS"}),
        ("migrate", {"OWNER", "TENANT", "PLATFORM", "RELAY"}),
        ("temporal-database", {"OWNER", "TEMPORAL"}),
        ("temporal-schema", {"TEMPORAL"}),
        ("temporal", {"TEMPORAL"}),
        ("temporal-namespace", set()),
        ("schedules", set()),
        ("folders", set()),
    ],
)
def test_a_process_has_the_credentials_that_it_uses(
    services: dict[str, Any], name: str, held: set[str]
) -> None:
    used = re.findall(r"\$\{(\w+)_(?:PASSWORD|SECRET|URL)", yaml.safe_dump(services[name]))
    assert set(used) - {"RUNBOOKS", "WEB"} == held  # addresses of pages


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


def test_the_schedules_are_in_force_before_workers_start(services: dict[str, Any]) -> None:
    assert services["schedules"]["command"] == ["starter.py", "schedules", "apply"]
    for name in (*WORKERS, "relay", "web"):
        awaited = services[name]["depends_on"]["schedules"]["condition"]
        assert awaited == "service_completed_successfully", name


def test_prometheus_has_the_token_of_scrapes_in_a_file_that_only_it_reads(
    services: dict[str, Any], compose: dict[str, Any], tmp_path: Path
) -> None:
    prometheus = services["prometheus"]
    config = yaml.safe_load((ROOT / "monitoring/prometheus.yml").read_text())
    [file] = {
        each["authorization"]["credentials_file"]
        for each in config["scrape_configs"]
        if "authorization" in each
    }
    [memory] = prometheus["tmpfs"]
    assert Path(file).parent == Path(memory)
    # Compose refuses any other secret in a read-only service.
    assert {tuple(secret) for secret in compose["secrets"].values()} == {("file",)}
    given = started(prometheus, tmp_path, "prometheus", METRICS_TOKEN="a %s token")
    assert given == prometheus["command"]
    written = tmp_path / Path(file).name
    assert written.read_text() == "a %s token"
    assert written.stat().st_mode & 0o777 == 0o600


def test_valkey_has_its_password_in_a_file_that_only_it_reads_and_may_forget(
    services: dict[str, Any], tmp_path: Path
) -> None:
    valkey = services["valkey"]
    file, *options = started(valkey, tmp_path, "valkey-server", REDIS_PASSWORD="a %s # password")
    assert options == valkey["command"]
    assert options[-2:] == ["--maxmemory-policy", "volatile-lru"]
    written = Path(file)
    assert written.read_text() == 'requirepass "a %s # password"\n'
    assert written.stat().st_mode & 0o777 == 0o600


def started(service: dict[str, Any], folder: Path, program: str, **environ: str) -> list[str]:
    """Starts a service without its program; returns the arguments that the program was given.

    Its temporary files are in `folder`.
    """
    [memory] = service["tmpfs"]
    shell, flag, script, name = service["entrypoint"]
    script = script.replace("$$", "$").replace(f"{memory}/", f"{folder}/")
    bin_folder = folder / "bin"
    bin_folder.mkdir()
    (bin_folder / program).write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (bin_folder / program).chmod(0o755)
    done = subprocess.run(
        [shell, flag, script, name, *service["command"]],
        env={"PATH": f"{bin_folder}:/usr/bin:/bin", **environ},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_the_schema_is_made_where_postgresql_listens(
    services: dict[str, Any], tmp_path: Path
) -> None:
    """The tool's own default is MySQL's port, so nothing would ever start."""
    tool = tmp_path / "temporal-sql-tool"
    tool.write_text("#!/bin/sh\necho $SQL_HOST:$SQL_PORT $2 $3\n")
    tool.chmod(0o755)
    service = services["temporal-schema"]
    shell, script = service["entrypoint"]
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    for given, port in ({}, 5432), ({"SQL_PORT": "6432"}, 6432):
        done = subprocess.run(
            [shell, str(TEMPORAL / Path(script).name)],
            env=path | service["environment"] | given,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.splitlines() == [
            f"postgres:{port} {database} {step}"
            for database in ("temporal", "temporal_visibility")
            for step in ("setup-schema", "update-schema")
        ]


def test_the_temporal_server_is_set_up_as_the_dev_stacks(services: dict[str, Any]) -> None:
    path = services["temporal"]["environment"]["DYNAMIC_CONFIG_FILE_PATH"]
    config = yaml.safe_load((TEMPORAL / Path(path).name).read_text())
    for name, value in FAIRNESS.items():
        assert config[name] == [{"value": yaml.safe_load(value)}]
    script = (TEMPORAL / "namespace.sh").read_text()
    for name, kind in SEARCH_ATTRIBUTES.items():
        assert f"--name {name} --type {kind}" in script


def test_no_server_lets_an_activity_pass_fairness_by() -> None:
    config = yaml.safe_load((TEMPORAL / "dynamic-config.yaml").read_text())
    assert config["system.enableActivityEagerExecution"] == [{"value": False}]


def test_the_images_commands_run_with_what_it_holds(services: dict[str, Any], image: Path) -> None:
    commands = [[*services[name]["command"], "--help"] for name in OWN_IMAGE]
    answers = json.loads(run(image, "-c", RUN_EACH, stdin=json.dumps(commands)))
    for name, (code, said) in zip(OWN_IMAGE, answers, strict=True):
        assert code == 0, name
        assert "Usage" in said, name
    assert not (image / "dev").exists()


def test_the_image_is_built_with_the_uv_of_the_makefile(dockerfile: list[str]) -> None:
    pinned = re.search(r"UV_VERSION := (\S+)", (ROOT / "Makefile").read_text())
    assert pinned is not None
    assert f"ARG UV_VERSION={pinned[1]}" in dockerfile


def test_the_image_does_not_run_as_root(dockerfile: list[str]) -> None:
    assert dockerfile.index("USER 999:999") > dockerfile.index("COPY processes processes")


def test_whoever_writes_to_a_volume_may(services: dict[str, Any], dockerfile: list[str]) -> None:
    folders = services["folders"]
    program, owner = folders["entrypoint"]
    assert (program, f"USER {owner}") == ("chown", dockerfile[dockerfile.index("USER 999:999")])
    given = {each.split(":")[0] for each in folders["volumes"]}
    assert folders["command"] == [each.split(":")[1] for each in folders["volumes"]]
    for name, service in services.items():
        for volume in service.get("volumes", ()):
            source, target, *mode = volume.split(":")
            if mode == ["ro"] or name == "folders":
                continue
            if source in given:
                assert service.get("user", owner if "build" in service else None) == owner, name
                assert "folders" in set(before(services, name)), name
            else:
                assert FOLDER_OF_IMAGE[name] == target, name
                assert "user" not in service, name  # another user than the image's


def before(services: dict[str, Any], name: str) -> Iterator[str]:
    """Yields the services that a service waits for, and those that they wait for."""
    for awaited in services[name].get("depends_on", {}):
        yield awaited
        yield from before(services, awaited)


def test_a_folder_that_is_mounted_is_in_the_tree_or_kept_out_of_it(
    services: dict[str, Any],
) -> None:
    given = {each.split(":")[0] for each in services["folders"]["volumes"]}
    ignored = [(ROOT / name).read_text().split() for name in (".gitignore", ".dockerignore")]
    for name, service in services.items():
        for volume in service.get("volumes", ()):
            source, _, *mode = volume.split(":")
            if not source.startswith("."):
                continue
            if source in given:
                for lines in ignored:
                    assert source.removeprefix("./") in [each.strip("/") for each in lines]
            else:
                assert mode == ["ro"], name
                assert (ROOT / source).exists(), name


def test_the_storage_has_the_bucket_of_the_processes(services: dict[str, Any]) -> None:
    bucket = services["web"]["environment"]["STORAGE_URL"].removeprefix("s3://")
    locks, volume = services["storage"]["volumes"]
    root = services["storage"]["command"][-1]
    assert volume == f"storage:{root}/{bucket}"
    # It writes its locks there before each object. In memory, folders cannot hold the attributes of
    # files before Linux 6.6, and it does not start.
    assert locks == f"storage-locks:{root}"
    assert root not in services["storage"]["tmpfs"]


@pytest.mark.parametrize("place", ["docker-compose.yml", "deploy/kubernetes"])
def test_every_setting_is_passed_or_its_default_is_right_in_production(place: str) -> None:
    files = [ROOT / place] if (ROOT / place).is_file() else (ROOT / place).rglob("*")
    text = "\n".join(path.read_text() for path in files if path.is_file())
    passed = set(re.findall(r"^\s*(?:- name: |- )?([A-Z][A-Z_]+)(?:: |=|$)", text, re.MULTILINE))
    settings = {name.upper() for name in Settings.model_fields}
    left = {name for name in settings - passed if not re.fullmatch(DEFAULT_IS_RIGHT, name)}
    assert left == LEFT_OUT.get(place, set())
    assert not passed & {name for name in settings if re.fullmatch(DEFAULT_IS_RIGHT, name)}
    page = (ROOT / "docs/how-to/run-in-production.md").read_text()
    named = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+)`", page)) & settings
    assert named - LEFT_OUT.get(place, set()) <= passed
