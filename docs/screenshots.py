"""`make screenshots`: the Web UI as operators see it, in a fan-out in which one tenant failed.

Then `starter.py top`, and the HTTP door's pages, as tenants' people see them.

Like `make demo`, it works in a temporary folder. It takes a picture only once the page shows the
expected words, so this also tests what operators see.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from dev import local_saas
from dev.devstack.errors import PartMissing
from dev.devstack.signals import orderly_stop
from dev.devstack.stack import Stack, without_servers
from dev.local_saas import CommandFailed
from dev.sample_data.load import load_events, make_up_tenants, unbillable_flight
from docs.page_pictures import take_pages
from docs.top_picture import take_top
from temporal_tenancy import Database
from temporal_tenancy.cli import exit_process

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Locator, Page

IMAGES: Final = Path(__file__).parent / "images"
JOB: Final = "billing.cycle"
BROKEN: Final = "f9"  # a flight with a negative distance, in April
SUSPENDED: Final = "ha"
SENTENCE: Final = (
    f"usage events of {BROKEN} in 2013-04 with a negative distance: 1. "
    "Correct or delete them, and run the tick again."
)
BACKFILLS: Final = {
    JOB: ("2013-03-01", "2013-05-01", 3),  # first and last nominal date, ticks
    "analytics.aggregate": ("2013-05-01", "2013-05-01", 1),
}

LOAD_CURVE: Final = "load-curve"
LOAD_DAY: Final = "2026-11-22"  # a Sunday, when the weekly jobs are due
MADE_UP: Final = 1_000  # tenants, for a visible load

CHROMIUM: Final = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM_FLAGS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WIDTH: Final = 1440  # pixels
HEIGHT: Final = 900
PATIENCE_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.25


class NotShown(Exception):
    """A page of the Web UI does not show what an operator needs."""


@dataclass(frozen=True)
class Picture:
    """A page of the Web UI, and the words that it must show."""

    name: str  # of the file, without its ending
    address: str
    shows: Sequence[str]
    height: float = HEIGHT  # pixels
    above: str | None = None  # the picture ends above these words: a traceback contains paths


def main() -> int:
    """Takes the pictures; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m docs.screenshots", description=__doc__)
    parser.add_argument("--to", type=Path, default=IMAGES, help="the folder to put them in")
    folder = parser.parse_args().to
    with orderly_stop(), tempfile.TemporaryDirectory(prefix="temporal-tenancy-docs-") as scratch:
        try:
            for path in take(folder, Path(scratch)):
                print(path)
        except PartMissing as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            return 3
        except (NotShown, CommandFailed) as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            return 1
    return 0


def take(folder: Path, scratch: Path) -> Sequence[Path]:
    """Takes every picture into `folder`, and returns their paths.

    Args:
        folder: created if missing.
        scratch: an empty folder for the servers' and the browser's state.

    Raises:
        PartMissing: Chromium, Playwright, or a part of the stack is missing.
        NotShown: a page does not show what it should.
        CommandFailed: a command of `starter.py` exited with an unexpected code.
    """
    executable = find_chromium()
    folder.mkdir(parents=True, exist_ok=True)
    environ = without_servers(os.environ)
    stack = Stack(scratch / "stack", environ=environ, ui_port=None, durable=False, outside=True)
    with stack, _troubled(stack):
        with _browser(executable, scratch / "browser") as browser:
            page = browser.pages[0]
            taken = [_take(page, picture, folder) for picture in _pictures(stack)]
            with local_saas.relay(stack):
                taken.append(take_top(browser.new_page(), stack, folder))
            taken += take_pages(browser.new_page(), stack, folder, scratch)
        return [*taken, _draw_load(stack, folder)]


def find_chromium() -> str:
    """Returns the path of Chromium; raises `PartMissing` without it or Playwright."""
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        raise PartMissing(
            'Playwright is not installed. "make screenshots" installs it, as does '
            '"uv sync --group docs".'
        ) from None
    for name in CHROMIUM:
        if found := shutil.which(name):
            return found
    raise PartMissing(
        'there is no Chromium on the PATH. "apt-get install chromium" installs it on Debian.'
    )


@contextmanager
def _troubled(stack: Stack) -> Iterator[None]:
    """Runs the months up to April, with one tenant suspended and one whose usage cannot be billed.

    The worker keeps running inside the block, because the Web UI queries it for current details.
    """
    local_saas.starter(stack, "migrate", "--harden", "--yes", owner=True)
    local_saas.load_sample_data(stack)
    asyncio.run(_with_database(stack, _break_usage))
    with local_saas.worker(stack):
        local_saas.starter(stack, "schedules", "apply")
        local_saas.starter(stack, "tenants", "suspend", SUSPENDED)
        for job, (first, last, _) in BACKFILLS.items():
            local_saas.starter(stack, "schedules", "backfill", job, "--from", first, "--to", last)
        for job, (*_, ticks) in BACKFILLS.items():
            _wait_for_ticks(stack, job, ticks)
        yield


async def _break_usage(database: Database) -> None:
    await load_events(database, BROKEN, [unbillable_flight(BROKEN)])


async def _add_tenants(database: Database) -> None:
    await make_up_tenants(database, MADE_UP)


async def _with_database(stack: Stack, work: Callable[[Database], Awaitable[None]]) -> None:
    database = local_saas.runtime_database(stack)
    try:
        await work(database)
    finally:
        await database.dispose()


def _draw_load(stack: Stack, folder: Path) -> Path:
    asyncio.run(_with_database(stack, _add_tenants))
    path = folder / f"{LOAD_CURVE}.png"
    local_saas.starter(stack, "schedules", "preview", "--from", LOAD_DAY, "--png", str(path))
    return path


def _wait_for_ticks(stack: Stack, job: str, count: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        ticks = local_saas.starter(stack, "ticks", "list", job)
        if len(ticks) == count and all(tick["state"] == "ended" for tick in ticks):
            return
        if time.monotonic() > deadline:
            raise NotShown(
                f"{job} has not run {count} ticks within {PATIENCE_SECONDS:g} s: {ticks}"
            )
        time.sleep(POLL_SECONDS)


def _pictures(stack: Stack) -> Sequence[Picture]:
    """Returns the pictures, with the addresses that the commands report."""
    ui = f"{stack.environment()['TEMPORAL_UI_URL']}/namespaces/default"
    root = _explained(stack, f"platform/{JOB}/tick-2013-05-01T06:00:00Z")
    child = _explained(stack, f"{BROKEN}/{JOB}/2013-04")
    query = quote(f'TenantId="{BROKEN}"', safe="")
    return [
        Picture(
            "workflows-of-a-tenant",
            f"{ui}/workflows?query={query}",
            (
                f'"{BROKEN}"',
                "4 Workflows",
                f"{BROKEN}/{JOB}/2013-04",
                f"{BROKEN}/analytics.aggregate/2013-04",
                "Failed",
            ),
            height=480,
        ),
        Picture(
            "fan-out",
            f"{root['url']}/timeline",
            ('"planned": 16', '"failed": 1', '"skipped": 1', f"UsageNotBillable: {SENTENCE}"),
        ),
        Picture(
            "fan-out-details",
            f"{root['url']}/user-metadata",
            (
                f"{JOB} for every tenant",
                f"{JOB} for 16 tenants, tick 2013-04: 14 succeeded, 1 failed, 1 skipped",
            ),
            height=780,
        ),
        Picture(
            "failed-child",
            f"{child['url']}/timeline",
            (f'"tenant_id": "{BROKEN}"', SENTENCE),
            above='"stackTrace"',
        ),
        Picture(
            "schedule",
            f"{ui}/schedules/{quote(f'platform/{JOB}', safe='')}",
            (
                "3 Workflows",
                f"platform/{JOB}/tick-2013-05-01T06:00:00Z",
                "Upcoming Runs",
                f'"job": "{JOB}"',
            ),
        ),
    ]


def _explained(stack: Stack, workflow_id: str) -> Mapping[str, Any]:
    explained: Mapping[str, Any] = local_saas.starter(stack, "explain", workflow_id)
    return explained


@contextmanager
def _browser(executable: str, profile: Path) -> Iterator[BrowserContext]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=executable,
            headless=True,
            args=list(CHROMIUM_FLAGS),
            viewport={"width": WIDTH, "height": HEIGHT},
            timezone_id="UTC",
            locale="en-US",
        )
        try:
            yield context
        finally:
            context.close()


def _take(page: Page, picture: Picture, folder: Path) -> Path:
    page.goto(picture.address)
    seen = [(words, _find(page, words)) for words in picture.shows]
    height = picture.height if picture.above is None else _top(_find(page, picture.above))
    for words, element in seen:
        if _bottom(element) > height:
            raise NotShown(f'"{words}" is below what the picture {picture.name} shows.')
    path = folder / f"{picture.name}.png"
    page.screenshot(
        path=path,
        animations="disabled",
        clip={"x": 0, "y": 0, "width": WIDTH, "height": height},
    )
    return path


def _find(page: Page, words: str) -> Locator:
    """Returns the element that shows `words`, in the page or in one of its frames."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        for frame in page.frames:
            for element in frame.get_by_text(words).all():
                if element.is_visible():
                    return element
        page.wait_for_timeout(POLL_SECONDS * 1000)  # processes the browser's events
    raise NotShown(f'{page.url} does not show "{words}".')


def _top(element: Locator) -> float:
    box = element.bounding_box()
    return 0.0 if box is None else box["y"]


def _bottom(element: Locator) -> float:
    box = element.bounding_box()
    return 0.0 if box is None else box["y"] + box["height"]


if __name__ == "__main__":
    exit_process(main())
