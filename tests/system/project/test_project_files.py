"""The root's files are correct: licence, changelog, contributing guide, hooks."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

from dev.lowest import lowest, requirements
from dev.rooms import floors, markdown

ROOT = Path(__file__).parents[3]
APACHE_2 = "c71d239df91726fc519c6eb72d318ec65820627232b2f796219e87dcf35d0ab4"  # SHA-256 of the text
CONTRACT = """
[tool.importlinter]
root_packages = ["upstairs_room", "ground_room"]
[[tool.importlinter.contracts]]
type = "layers"
layers = ["upstairs_room", "ground_room"]
[[tool.importlinter.contracts]]
type = "layers"
containers = ["ground_room"]
layers = ["left | right", "cellar"]
"""


def test_the_licence_is_the_standard_text() -> None:
    text = (ROOT / "LICENSE").read_text()
    standard = re.sub(
        r"Copyright \d{4} The temporal-tenancy authors",
        "Copyright [yyyy] [name of copyright owner]",
        text,
    )
    assert hashlib.sha256(standard.encode()).hexdigest() == APACHE_2


def test_the_changelog_has_the_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert version in headings


def test_the_tables_of_rooms_are_those_of_the_code() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for floor in floors(ROOT):
        assert markdown(floor) in text, "`python -m dev.rooms --markdown` prints the tables"


def test_rooms_have_their_size_and_their_arrows(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(CONTRACT)
    modules = {
        "upstairs_room/__init__.py": "from ground_room.left.door import knock",
        "ground_room/__init__.py": "",
        "ground_room/left/__init__.py": "",
        "ground_room/left/door.py": "from ground_room import cellar\n\nknock = cellar",
        "ground_room/right.py": '"""Holds the keys.\n\nAll of them.\n"""',
        "ground_room/cellar.py": "",
    }
    for name, code in modules.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
    show = (
        "from pathlib import Path; from dev.rooms import floors\n"
        "for floor in floors(Path(sys.argv[1])):\n"
        "    for room in floor.rooms:\n"
        "        print(room.name, room.modules, room.lines, *room.imports, room.purpose)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.append(sys.argv[1])\n{show}", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert [line.rstrip() for line in shown.stdout.splitlines()] == [
        "upstairs_room 1 1 ground_room",
        "ground_room 5 7",
        "ground_room.left 2 3 ground_room.cellar",
        "ground_room.right 1 4 Holds the keys.",
        "ground_room.cellar 1 0",
    ], shown.stderr


def test_the_hooks_run_what_make_check_runs() -> None:
    makefile = (ROOT / "Makefile").read_text()
    recipe = re.search(r"^check:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert recipe is not None
    checked = [line.removeprefix("\t@") for line in recipe[1].splitlines()]
    [repository] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    assert [hook["entry"] for hook in repository["hooks"]] == [
        line.replace("$(BIN)", ".venv/bin").replace(" --check", "") for line in checked
    ]
    assert all(hook["language"] == "system" for hook in repository["hooks"])


def test_the_page_of_versions_has_the_ranges_of_the_library() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    parts = {"core": project["dependencies"], **project["optional-dependencies"]}
    rows = [
        re.sub(r"([\w-]+)(?:\[.*\])?(>=.*)", rf"| \1 | {part} | `\2` |", need)
        for part, needs in parts.items()
        for need in needs
        if not need.startswith(f"{project['name']}[")  # another extra
    ]
    page = (ROOT / "docs" / "reference" / "versions.md").read_text()
    shown = page.partition("<!-- versions -->")[2].partition("<!-- /versions -->")[0]
    assert shown.strip().splitlines()[2:] == rows


def test_the_lowest_requirements_are_the_lower_bounds_and_what_is_locked() -> None:
    bounds = {"psycopg": "psycopg[binary]==3.2.4"}
    exported = ["psycopg==3.3.9\n", "psycopg-binary==3.3.9\n", "psycopg-pool==3.3.3\n"]
    assert list(requirements(exported, bounds)) == [
        "psycopg[binary]==3.2.4",
        "psycopg-pool==3.3.3",
    ]
    assert lowest()["psycopg"] == bounds["psycopg"]
