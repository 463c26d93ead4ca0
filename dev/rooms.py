"""`make rooms`: the folders of the project, with their sizes and imports.

The import contract in pyproject.toml defines the rooms; the imports are read from the code.
"""

from __future__ import annotations

import argparse
import ast
import sys
import tomllib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grimp
from rich.console import Console
from rich.table import Table

ROOT: Final = Path(__file__).parents[1]


@dataclass(frozen=True)
class Room:
    """A package or module with a place in the contract."""

    name: str  # dotted
    purpose: str  # the first line of its docstring
    modules: int
    lines: int
    imports: tuple[str, ...]  # other rooms on the same floor

    @property
    def short(self) -> str:
        """Its name without the floor's."""
        return self.name.rpartition(".")[2]


@dataclass(frozen=True)
class Floor:
    """The rooms of the root, or of one package."""

    name: str  # empty for the root
    rooms: tuple[Room, ...]  # from the top down


def floors(root: Path = ROOT) -> list[Floor]:
    """Returns the floors of the contract in `root`, with the actual imports."""
    settings = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["importlinter"]
    first, *others = settings["root_packages"]
    graph = grimp.build_graph(first, *others, cache_dir=None)
    return [
        Floor(container, tuple(_rooms(graph, root, _names(contract["layers"], container))))
        for contract in settings["contracts"]
        if contract["type"] == "layers"
        for container in contract.get("containers", [""])
    ]


def _names(layers: Iterable[str], container: str) -> list[str]:
    """Returns the rooms named in layers; `a | b` in a layer are independent of each other."""
    names = [name.strip() for layer in layers for name in layer.split("|")]
    return [f"{container}.{name}" if container else name for name in names]


def _rooms(graph: grimp.ImportGraph, root: Path, names: Sequence[str]) -> Iterator[Room]:
    inside = {name: {name} | graph.find_descendants(name) for name in names}
    room_of = {module: name for name, modules in inside.items() for module in modules}
    for name, modules in inside.items():
        reached = {
            room_of.get(imported)
            for module in modules
            for imported in graph.find_modules_directly_imported_by(module)
        }
        files = _files(root, name)
        yield Room(
            name,
            purpose=_purpose(files[0]),
            modules=len(files),
            lines=sum(len(file.read_text().splitlines()) for file in files),
            imports=tuple(other for other in names if other in reached and other != name),
        )


def _files(root: Path, name: str) -> list[Path]:
    """Returns a room's modules, including migrations; the first has the room's docstring."""
    path = root.joinpath(*name.split("."))
    return sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]


def _purpose(module: Path) -> str:
    docstring = ast.get_docstring(ast.parse(module.read_text())) or ""
    return docstring.partition("\n")[0]


def _short(names: Collection[str]) -> str:
    return ", ".join(name.rpartition(".")[2] for name in names) or "nothing"


def markdown(floor: Floor) -> str:
    """Returns a floor's table for CONTRIBUTING.md: each room's purpose and imports."""
    lines = ["| room | what it is for | imports |", "| --- | --- | --- |"]
    lines += [
        f"| `{room.short}` | {room.purpose} | {_short(room.imports)} |" for room in floor.rooms
    ]
    return "\n".join(lines)


def _table(floor: Floor) -> Table:
    table = Table("room", box=None, title=floor.name or "the root", title_justify="left")
    table.add_column("modules", justify="right")
    table.add_column("lines", justify="right")
    table.add_column("imports")
    for room in floor.rooms:
        table.add_row(room.short, f"{room.modules:,}", f"{room.lines:,}", _short(room.imports))
    return table


def main(arguments: Sequence[str]) -> int:
    """Prints every floor; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m dev.rooms", description=__doc__)
    parser.add_argument("--markdown", action="store_true", help="print tables for CONTRIBUTING.md")
    options = parser.parse_args(arguments)
    found = floors()
    if options.markdown:
        print("\n\n".join(map(markdown, found)))
        return 0
    console = Console(highlight=False)
    for floor in found:
        console.print(_table(floor), "")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
