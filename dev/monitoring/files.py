"""The files that are made from the rules and the dashboards."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import yaml

from dev.monitoring.dashboards import DASHBOARDS, as_json
from dev.monitoring.rules import RULES, as_group

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / "monitoring"
_MADE: Final = "# Made by python -m dev.monitoring --write.\n"


def files() -> Mapping[str, str]:
    """Returns the text of each file, by its path in `monitoring/`."""
    rules = yaml.safe_dump(as_group(RULES), sort_keys=False, allow_unicode=True, width=1_000)
    return {
        "rules.yml": f"{_MADE}{rules}",
        **{f"dashboards/{board.uid}.json": as_json(board) for board in DASHBOARDS},
    }
