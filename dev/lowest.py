"""`python -m dev.lowest`: requirements with the oldest releases that the library says it takes.

It reads `uv export` from standard input. What the library needs gets its lower bound in
pyproject.toml, and everything else stays as locked.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

PROJECT: Final = Path(__file__).parents[1] / "pyproject.toml"
# Each release of one of the library's dependencies brings its own release of these.
BROUGHT: Final = frozenset(
    {
        *("psycopg-binary", "pydantic-core", "protobuf", "googleapis-common-protos"),
    }
)
# As locked: the FastAPI of the reference SaaS, which is in the same environment, needs a newer one.
AS_LOCKED: Final = ("opentelemetry-",)
EXTRAS: Final = ("postgres", "django", "tracing", "metrics", "redis")
_REQUIREMENT: Final = re.compile(r"(?P<name>[\w.-]+)(?P<extras>\[[\w,]+\])?>=(?P<lowest>[\w.]+)")


def lowest(project: Path = PROJECT) -> dict[str, str]:
    """Returns a requirement for the lower bound of each dependency of the library, by its name."""
    declared = tomllib.loads(project.read_text())["project"]
    extras = declared["optional-dependencies"]
    found = {}
    for line in (*declared["dependencies"], *(line for extra in EXTRAS for line in extras[extra])):
        if line.startswith(f"{declared['name']}["):
            continue  # another extra
        part = _REQUIREMENT.match(line)
        if part is None:
            raise ValueError(f'the dependency "{line}" has no lower bound. Begin it with name>=.')
        if part["name"].startswith(AS_LOCKED):
            continue
        found[part["name"]] = f"{part['name']}{part['extras'] or ''}=={part['lowest']}"
    return found


def requirements(exported: Iterable[str], bounds: Mapping[str, str]) -> Iterator[str]:
    """Returns the exported requirements, with `bounds` in the place of those of the library."""
    yield from bounds.values()
    for line in exported:
        name = re.match(r"[\w.-]+", line)
        if name is not None and name[0] not in bounds and name[0] not in BROUGHT:
            yield line.rstrip()


if __name__ == "__main__":
    print(*requirements(sys.stdin, lowest()), sep="\n")
