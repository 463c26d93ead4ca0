"""Where the real Temporal server's programs come from, and what it runs on."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from dev.devstack.errors import PartMissing
from dev.devstack.go_programs import MODULE
from dev.devstack.postgres import DatabaseUrls
from dev.devstack.stack import Stack, without_servers
from dev.devstack.temporal_config import (
    SERVICES,
    STORE,
    VISIBILITY,
    ServerPorts,
    write_server_config,
)
from dev.devstack.temporal_database import EXTENSION, find_postgres
from dev.devstack.temporal_kinds import TemporalKind, make_temporal
from dev.devstack.temporal_part import FAIRNESS
from dev.devstack.temporal_programs import (
    PACKAGES,
    ServerPrograms,
    find_server_programs,
    server_release,
)
from tests.system.dev.test_devstack_temporal_binary import cache, environ, write_go, write_script

__all__ = ["cache", "environ"]  # fixtures


def found(environ: dict[str, str], cache: Path) -> ServerPrograms:
    """Returns the programs with Go on PATH or missing."""
    return find_server_programs(environ, cache=cache, go_folder=str(cache / "no-go"))


def test_every_module_that_is_built_has_its_sum() -> None:
    """Otherwise the build fails where it was never built, and here it comes from the cache."""
    required = re.findall(r"^\t(\S+) (v\S+)", (MODULE / "go.mod").read_text(), re.MULTILINE)
    sums = {tuple(line.split()[:2]) for line in (MODULE / "go.sum").read_text().splitlines()}
    assert len(required) > 100
    assert [each for each in required if each not in sums] == []


def test_they_are_built_once_and_kept_by_release(
    tmp_path: Path, cache: Path, environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    write_go(tmp_path / "bin")
    assert found(environ, cache) == found(environ, cache)
    folder = cache / f"server-{server_release()}"
    assert {file.name for file in folder.iterdir()} >= {*PACKAGES}
    assert (tmp_path / "bin/builds").read_text() == "built\n" * len(PACKAGES)
    assert capsys.readouterr().err.count(f"building the Temporal server {server_release()}") == 1


def test_a_build_that_was_interrupted_goes_on_where_it_was(
    tmp_path: Path, cache: Path, environ: dict[str, str]
) -> None:
    write_go(tmp_path / "bin")
    programs = found(environ, cache)
    programs.ui.unlink()
    (programs.folder / ".draft-left").mkdir()
    assert found(environ, cache).ui.exists()
    assert (tmp_path / "bin/builds").read_text() == "built\n" * (len(PACKAGES) + 1)
    assert not (programs.folder / ".draft-left").exists()


def test_programs_of_another_release_are_taken_as_they_are(tmp_path: Path, cache: Path) -> None:
    for name in PACKAGES:
        write_script(tmp_path / "next" / name, "true")
    environ = {"TEMPORAL_SERVER_BIN": str(tmp_path / "next")}
    assert found(environ, cache).folder == tmp_path / "next"
    (tmp_path / "next/temporal-sql-tool").unlink()
    with pytest.raises(PartMissing, match="which does not have temporal-sql-tool"):
        found(environ, cache)
    assert not cache.exists()


def test_without_go_the_sentence_names_every_way(cache: Path, environ: dict[str, str]) -> None:
    with pytest.raises(PartMissing) as refused:
        found(environ, cache)
    for way in ("https://go.dev/dl", "unset TEMPORAL_KIND", "TEMPORAL_ADDRESS"):
        assert way in str(refused.value)


def test_a_build_without_the_network_says_so_and_shows_the_end_of_its_log(
    tmp_path: Path, cache: Path, environ: dict[str, str]
) -> None:
    write_script(tmp_path / "bin/go", "echo 'dial tcp: no such host'; exit 1")
    with pytest.raises(PartMissing, match="needs the network") as refused:
        found(environ, cache)
    assert str(refused.value).endswith("dial tcp: no such host")
    assert not [*cache.rglob("temporal-server")]


@pytest.fixture
def postgres(tmp_path: Path) -> Path:
    """Debian's folder of versions: 13, 15 and 9.6, each with the extension."""
    for version in ("13", "15", "9.6"):
        write_postgres(tmp_path / "postgresql" / version, version, extension=True)
    return tmp_path / "postgresql"


def write_postgres(home: Path, version: str, *, extension: bool) -> Path:
    write_script(home / "bin/initdb", "true")
    write_script(home / "bin/postgres", f'echo "postgres (PostgreSQL) {version}.4"')
    if extension:
        control = home / f"share/extension/{EXTENSION}.control"
        control.parent.mkdir(parents=True)
        control.touch()
    return home / "bin"


def test_debians_newest_postgres_is_taken(postgres: Path, environ: dict[str, str]) -> None:
    assert find_postgres(environ, debian=postgres) == postgres / "15/bin"


def test_a_named_postgres_is_taken(postgres: Path, tmp_path: Path) -> None:
    named = write_postgres(tmp_path / "18", "18", extension=True)
    assert find_postgres({"TEMPORAL_POSTGRES_BIN": str(named)}, debian=postgres) == named


def test_a_named_postgres_without_the_extension_is_refused(postgres: Path, tmp_path: Path) -> None:
    named = write_postgres(tmp_path / "18", "18", extension=False)
    with pytest.raises(PartMissing, match=r"TEMPORAL_POSTGRES_BIN is .* btree_gin"):
        find_postgres({"TEMPORAL_POSTGRES_BIN": str(named)}, debian=postgres)


def test_without_a_postgres_the_sentence_says_how_to_get_one(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    environ["PATH"] = str(tmp_path / "bin")
    with pytest.raises(PartMissing) as refused:
        find_postgres(environ, debian=tmp_path)
    for way in ("apt-get install postgresql-15", "TEMPORAL_POSTGRES_BIN", "unset TEMPORAL_KIND"):
        assert way in str(refused.value)


def test_the_dev_server_is_the_default() -> None:
    assert TemporalKind.of({}) is TemporalKind.of({"TEMPORAL_KIND": ""}) is TemporalKind.DEV


def test_a_kind_that_does_not_exist_is_refused_before_anything_starts(tmp_path: Path) -> None:
    stack = Stack(tmp_path, environ={"TEMPORAL_KIND": "Server"})
    with pytest.raises(PartMissing, match=r'TEMPORAL_KIND is "Server"\. It is "dev"'):
        stack.start()
    assert stack.postgres is None


def test_the_kind_is_no_address_and_reaches_the_next_stack() -> None:
    environ = {"TEMPORAL_KIND": "server", "TEMPORAL_ADDRESS": "127.0.0.1:7233"}
    assert without_servers(environ) == {"TEMPORAL_KIND": "server"}


def test_a_missing_postgres_is_found_before_the_long_build(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    environ |= {"TEMPORAL_KIND": "server", "TEMPORAL_POSTGRES_BIN": str(tmp_path)}
    write_script(tmp_path / "bin/go", f"touch {tmp_path / 'built'}; exit 1")
    with pytest.raises(PartMissing, match="TEMPORAL_POSTGRES_BIN"):
        make_temporal(tmp_path / "temporal", environ=environ)
    assert not (tmp_path / "built").exists()


def test_the_servers_configuration_is_private_and_on_loopback(tmp_path: Path) -> None:
    url = "postgresql+psycopg://tenancy_owner:s3cret@127.0.0.1:5499/temporal"
    urls = DatabaseUrls(owner=url, tenant="", platform="", relay="", superuser="")
    ports = ServerPorts(
        grpc=dict(zip(SERVICES, range(7000, 7004), strict=True)),
        membership=dict(zip(SERVICES, range(6000, 6004), strict=True)),
    )
    path = write_server_config(
        tmp_path,
        {STORE: urls, VISIBILITY: urls},
        ports,
        shards=4,
        dynamic_config=FAIRNESS,
        log_level="warn",
    )
    config = json.loads(path.read_text())
    assert path.stat().st_mode & 0o077 == 0
    assert {service["rpc"]["bindOnIP"] for service in config["services"].values()} == {"127.0.0.1"}
    store = config["persistence"]["datastores"][STORE]["sql"]
    assert (store["connectAddr"], store["password"]) == ("127.0.0.1:5499", "s3cret")
    dynamic = json.loads(Path(config["dynamicConfigClient"]["filepath"]).read_text())
    assert dynamic["matching.enableFairness"] == [{"value": True}]
    assert dynamic["matching.backlogNegligibleAge"] == [{"value": "100ms"}]
