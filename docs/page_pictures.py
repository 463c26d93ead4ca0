"""Pictures of the HTTP door's pages: what a tenant's people see, each taken in real use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dev import local_saas
from dev.devstack.stack import Stack

if TYPE_CHECKING:
    from playwright.sync_api import Page

TENANT: Final = "ua"
PEOPLE: Final = 1_200
WITHOUT_ADDRESS: Final = 3
COMPANIES: Final = ("Harbour Catering", "Ramp & Sons", "Skyline Fuel", "Gate Eleven Cafe")
WIDTH: Final = 1000  # pixels
HEIGHT: Final = 760
PATIENCE_MS: Final = 60_000


def take_pages(page: Page, stack: Stack, folder: Path, scratch: Path) -> Iterator[Path]:
    """Takes a picture of each page into `folder`, and yields its path.

    The stack has migrations, the sample tenants and a running worker; this runs the relay and the
    door. Raises Playwright's `Error` if a page does not show what it should.
    """
    key = local_saas.starter(stack, "api-keys", "create", "--tenant", TENANT, "--name", "laptop")[
        "key"
    ]
    with local_saas.relay(stack), local_saas.web(stack):
        yield from take_pages_of(page, stack.environment()["WEB_URL"], key, folder, scratch)


def take_pages_of(page: Page, door: str, key: str, folder: Path, scratch: Path) -> Iterator[Path]:
    """Takes the same pictures of the door at the URL `door`, with a tenant's key."""
    file = scratch / "people.csv"
    file.write_text(_contacts())
    page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
    page.set_default_timeout(PATIENCE_MS)
    page.goto(f"{door}/pages/integrations")
    page.get_by_label("API key").fill(key)
    for name in ("crm", "accounting"):
        page.get_by_label("Name").fill(name)
        page.get_by_label("URL").fill(f"https://api.{name}.example/records")
        page.get_by_label("Credential").fill("only for the picture")
        page.get_by_role("button", name="Save").click()
        page.get_by_role("button", name=f"Sync now: {name}").wait_for()
    # There is no such host. The sync fails while the other pictures are taken.
    page.get_by_role("button", name="Sync now: crm").click()
    page.get_by_text("One sync is under way.").wait_for()

    page.goto(door)
    page.get_by_label("CSV file").focus()
    page.locator("#account").get_by_text("United Air Lines").wait_for()
    page.get_by_label("CSV file").set_input_files(file)
    page.get_by_role("button", name="Import").click()
    page.get_by_text("Done: people.csv").wait_for()
    page.locator("#list").get_by_text("people.csv").wait_for()
    yield _picture(page, folder / "page-import.png")
    with _dark(page):
        yield _picture(page, folder / "page-import-dark.png")

    page.goto(f"{door}/pages/exports")
    for dataset, format in (("Contacts", "CSV"), ("Usage events", "Parquet")):
        page.get_by_label("Data").select_option(dataset)
        page.get_by_label(format).check()
        page.get_by_role("button", name="Request export").click()
        page.get_by_role("button", name=f"Download {dataset}").wait_for()
    yield _picture(page, folder / "page-exports.png")

    page.goto(f"{door}/pages/search")
    page.get_by_label("Words").fill("harbour catering")
    while not page.locator("#list li").count():  # the index follows a moment later
        page.get_by_role("button", name="Search").click()
        page.wait_for_timeout(500)
    page.locator("#list button").first.click()
    page.get_by_text("Company").wait_for()
    yield _picture(page, folder / "page-search.png", whole=False)

    page.goto(f"{door}/pages/integrations")
    page.get_by_role("button", name="Sync now: crm").wait_for()
    while not page.get_by_text("The partner did not answer.").count():
        page.wait_for_timeout(1_000)
        page.reload()
        page.get_by_role("button", name="Sync now: crm").wait_for()
    yield _picture(page, folder / "page-integrations.png")

    page.goto(f"{door}/docs")
    page.get_by_text("/integrations/{name}/sync").wait_for()
    yield _picture(page, folder / "api-reference.png", whole=False)


def _contacts() -> str:
    lines = ["email,name,company,country"]
    for number in range(PEOPLE):
        address = "" if number < WITHOUT_ADDRESS else f"person{number}@people.example"
        company = COMPANIES[number % len(COMPANIES)]
        lines.append(f"{address},Person {number},{company},US")
    return "\n".join([*lines, ""])


@contextmanager
def _dark(page: Page) -> Iterator[None]:
    page.emulate_media(color_scheme="dark")
    yield
    page.emulate_media(color_scheme="light")


def _picture(page: Page, path: Path, *, whole: bool = True) -> Path:
    page.screenshot(path=path, animations="disabled", full_page=whole)
    return path
