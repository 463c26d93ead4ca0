"""The picture of `starter.py top`: what an operator sees on a terminal of 80 columns."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.text import Text

from dev import local_saas
from dev.devstack.stack import Stack

if TYPE_CHECKING:
    from playwright.sync_api import Page

COLUMNS: Final = 80
NAME: Final = "top"
COMMAND: Final = "starter.py top"


def take_top(page: Page, stack: Stack, folder: Path) -> Path:
    """Takes the picture of `starter.py top` on a running stack; returns its path."""
    shown = local_saas.starter_text(stack, "top", "--once", columns=COLUMNS)
    return draw(page, shown, folder)


def draw(page: Page, shown: str, folder: Path) -> Path:
    """Draws lines of a terminal into a picture; returns its path."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(shown), soft_wrap=True)
    page.set_content(f"<body style='margin:0'>{console.export_svg(title=COMMAND)}</body>")
    path = folder / f"{NAME}.png"
    page.locator("svg").first.screenshot(path=path, animations="disabled")
    return path
