"""Where the Temporal dev server's binary comes from."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import pytest

from dev.devstack.errors import PartMissing
from dev.devstack.temporal_binary import (
    StartLocal,
    find_temporal,
    pinned_version,
    server_version,
)

NEW = "temporal version 1.8.2 (Server 1.31.2, UI 2.50.1)"
OLD = "temporal version 1.5.1 (Server 1.29.1, UI 2.42.1)"


def write_script(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def write_temporal(path: Path, version: str) -> Path:
    return write_script(path, f'echo "{version}"')


def write_go(folder: Path) -> Path:
    """A `go` that "builds" a new server into the file named by -o=, and records the call."""
    return write_script(
        folder / "go",
        f"""
        for argument; do case "$argument" in -o=*) output="${{argument#-o=}}" ;; esac; done
        echo built >> "{folder}/builds"
        printf '#!/bin/sh\\necho "{NEW}"\\n' > "$output"
        chmod +x "$output"
        """,
    )


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "bin").mkdir()
    return {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"}


async def refuse(**_: object) -> NoReturn:
    """A download that fails."""
    raise RuntimeError("failed to download")


def found(environ: dict[str, str], cache: Path, start_local: StartLocal = refuse) -> Path:
    """Returns the binary that is found with Go on PATH or missing."""
    nowhere = str(cache / "no-go")
    return find_temporal(environ, cache=cache, go_folder=nowhere, start_local=start_local)


@pytest.mark.parametrize(("said", "version"), [(NEW, (1, 31)), (OLD, (1, 29)), ("hello", None)])
def test_the_servers_version_is_read(
    tmp_path: Path, said: str, version: tuple[int, int] | None
) -> None:
    assert server_version(write_temporal(tmp_path / "temporal", said)) == version


def test_the_pinned_version_is_the_modules() -> None:
    assert pinned_version() == "1.8.2"


def test_a_new_temporal_on_the_path_is_taken(
    tmp_path: Path, cache: Path, environ: dict[str, str]
) -> None:
    on_path = write_temporal(tmp_path / "bin/temporal", NEW)
    assert found(environ, cache) == on_path


def test_an_old_temporal_on_the_path_is_skipped_with_a_note(
    tmp_path: Path, cache: Path, environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    write_temporal(tmp_path / "bin/temporal", OLD)
    kept = write_temporal(cache / pinned_version() / "temporal", NEW)
    assert found(environ, cache) == kept
    assert "is skipped: its server is 1.29, and 1.31 is the oldest." in capsys.readouterr().err


def test_it_is_downloaded_as_the_sdk_does(cache: Path, environ: dict[str, str]) -> None:
    class Server:
        async def shutdown(self) -> None: ...

    async def download(*, download_dest_dir: str, **_: object) -> Server:
        write_temporal(Path(download_dest_dir) / "temporal-v1.8.2", NEW)
        return Server()

    assert server_version(found(environ, cache, download)) == (1, 31)


def test_it_is_built_once_and_kept(
    tmp_path: Path, cache: Path, environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    write_go(tmp_path / "bin")
    assert found(environ, cache) == found(environ, cache)
    assert capsys.readouterr().err.count("building the Temporal dev server with Go") == 1


def test_two_builders_build_once(tmp_path: Path, cache: Path, environ: dict[str, str]) -> None:
    write_go(tmp_path / "bin")
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: found(environ, cache), range(2)))
    assert both == [cache / pinned_version() / "temporal"] * 2
    assert (tmp_path / "bin/builds").read_text() == "built\n"


def test_a_failed_build_shows_the_end_of_its_log(
    tmp_path: Path, cache: Path, environ: dict[str, str]
) -> None:
    write_script(tmp_path / "bin/go", "echo 'no space left'; exit 1")
    with pytest.raises(PartMissing, match="could not be built with Go") as refused:
        found(environ, cache)
    assert str(refused.value).endswith("no space left")


def test_a_failed_build_leaves_nothing_that_looks_whole(
    tmp_path: Path, cache: Path, environ: dict[str, str]
) -> None:
    write_script(tmp_path / "bin/go", "exit 1")
    with pytest.raises(PartMissing):
        found(environ, cache)
    assert {file.name for file in (cache / pinned_version()).iterdir()} == {"build.log", "lock"}


def test_without_any_the_sentence_names_every_way(cache: Path, environ: dict[str, str]) -> None:
    with pytest.raises(PartMissing) as refused:
        found(environ, cache)
    for way in ("https://docs.temporal.io/cli", "https://go.dev/dl", "TEMPORAL_ADDRESS"):
        assert way in str(refused.value)
