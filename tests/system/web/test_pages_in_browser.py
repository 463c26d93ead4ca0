"""The pages in Chromium, with answers of the door that a test makes up: every state, hostile texts.

No width of a screen and no text of a tenant's makes a page scroll sideways, and none runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import pytest

from dev.devstack.errors import PartMissing
from docs.screenshots import _browser, find_chromium
from processes.web.pages import _TEXTS, _WRITTEN, KINDS, POLICY

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

DOOR: Final = "http://door.example"
PAGES: Final = {
    "/": "Import contacts",
    "/pages/exports": "Exports",
    "/pages/search": "Search",
    "/pages/integrations": "Integrations",
}
LISTS: Final = {path: {"/": "/imports"}.get(path, path.removeprefix("/pages")) for path in PAGES}
WIDTHS: Final = (400, 1280)  # pixels
NOW: Final = "2026-11-22T04:07:58Z"
HOSTILE: Final = [
    "x" * 200,
    "<script>document.title='run'</script><img src=x onerror=\"document.title='run'\">",
    "شركة الطيران المتحدة للنقل الجوي والخدمات اللوجستية.csv",
    "\u202eexe.stcatnoc=1+1",
    "=1+1",
    "✈️🧑🏽‍🤝‍🧑🏻" * 25,
    "a very long name with words " * 8,
]

Answers = dict[str, Any]  # by path: JSON, or a status with an error's sentence


def import_of(name: str, status: str = "completed", **fields: Any) -> Answers:
    links = {"self": "/imports/1", "events": "/imports/1/events", "errors": "/imports/1/errors",
             "cancel": "/imports/1/cancel"}  # fmt: skip
    return {
        "id": "1", "file_name": name, "status": status, "rows": 1_234_567, "imported": 1_234_000,
        "updated": 560, "rejected": 7, "error_file": None, "dry_run": False, "encoding": "utf-8",
        "candidates": [], "progress": 1.0, "error": None, "created_at": NOW, "links": links,
    } | fields  # fmt: skip


def export_of(status: str, rows: int | None) -> Answers:
    return {
        "dataset": "usage_events", "format": "csv", "status": status, "rows": rows,
        "bytes": 12_345_678, "requested_at": NOW, "completed_at": NOW, "expires_at": NOW,
        "links": {"self": "/exports/1", "file": "/exports/1/file"},
    }  # fmt: skip


def integration(name: str, status: str, error: str | None = None) -> Answers:
    return {
        "name": name, "url": f"https://api.{name}.example/records", "status": status,
        "error": error, "last_synced_at": NOW if status == "synced" else None,
        "links": {"self": f"/integrations/{name}", "sync": f"/integrations/{name}/sync"},
    }  # fmt: skip


def found(kind: str, title: str) -> Answers:
    return {"kind": kind, "title": title, "snippet": title, "links": {"self": f"/{kind}s/1"}}


FULL: Final[Answers] = {
    "/me": {"tenant_id": "ua", "name": "United Air Lines", "status": "active", "plan": "standard",
            "time_zone": "America/New_York", "caller": 'key tk_1234… "laptop"'},
    "/imports": {
        "items": [
            import_of("people.csv", error_file="x"),
            import_of("now.csv", "processing", progress=0.4),
            import_of("dry.csv", dry_run=True),
            import_of("unsure.csv", "failed", rows=0, error="it is unsure.", candidates=[
                {"encoding": each, "sample": ["José,Ærø", "Zoë"]} for each in ("utf-8", "gb18030")
            ]),
            import_of("none.csv", "failed", rows=0, error="The file has no header line."),
        ],
        "next": "more",
    },
    "/exports": {
        "items": [export_of("requested", None), export_of("completed", 1_234_567),
                  export_of("failed", None)],
        "next": None,
    },
    "/integrations": {
        "items": [integration("crm", "synced"), integration("erp", "never"),
                  integration("mail", "failed", "The partner refused the credential.")],
        "next": None,
    },
    "/search": {
        "items": [found("document", "Daily report of 2013-04-30"), found("contact", "Ann")],
        "next": None,
    },
    "/documents/1": {"content": {
        "period": "2013-04-30", "events": 1234567, "mean_delay": 12.5, "most_delay": None,
        "busiest_routes": [
            {"origin": "EWR", "destination": "IAH", "events": 12345},
            {"origin": "LGA", "destination": "ORD", "events": 9},
        ],
    }},
    "/contacts/1": {"email": "ann@x.example", "name": "Ann", "phone": None, "company": "Acme",
                    "country": "US", "attributes": {"note": "=1+1"}},
}  # fmt: skip
EMPTY: Final[Answers] = FULL | {
    path: {"items": [], "next": None}
    for path in ("/imports", "/exports", "/search", "/integrations")
}
REFUSED: Final[Answers] = dict.fromkeys(FULL, (401, "This request needs a valid key."))
SUSPENDED: Final[Answers] = FULL | {"/me": FULL["/me"] | {"status": "suspended"}}
AWAY: Final[Answers] = FULL | dict.fromkeys(
    ("/imports", "/exports", "/search", "/integrations"),
    (503, "A required service does not answer. Try again."),
)


def hostile() -> Answers:
    """Returns the answers with a tenant's texts wherever there can be one."""
    first, *_ = HOSTILE
    return FULL | {
        "/me": FULL["/me"] | {"name": " ".join(HOSTILE), "caller": first},
        "/imports": {
            "items": [
                import_of(text, "failed", error=text, candidates=[
                    {"encoding": "utf-8", "sample": [text, text]}
                ])
                for text in HOSTILE
            ],
            "next": None,
        },
        "/integrations": {
            "items": [integration("a" * 63, "failed", text) | {"url": text} for text in HOSTILE],
            "next": None,
        },
        "/search": {
            "items": [found(kind, text) for text in HOSTILE for kind in ("document", "contact")],
            "next": "more",
        },
        "/documents/1": {"content": {
            **{text: text for text in HOSTILE}, "rows": [{text: text for text in HOSTILE}] * 2
        }},
        "/contacts/1": FULL["/contacts/1"]
        | {"company": first, "attributes": {text: text for text in HOSTILE}},
    }  # fmt: skip


STATES: Final[dict[str, Answers]] = {
    "full": FULL,
    "empty": EMPTY,
    "refused": REFUSED,
    "suspended": SUSPENDED,
    "away": AWAY,
    "hostile": hostile(),
}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    try:
        executable = find_chromium()
    except PartMissing as error:
        pytest.skip(str(error))
    with _browser(executable, tmp_path_factory.mktemp("browser")) as browser:
        page = browser.pages[0]
        page.set_default_timeout(30_000)
        yield page


def answering(answers: Answers) -> Callable[[Route], None]:
    """Returns what answers each request of a page, with the door's own files and policy."""

    def answer(route: Route) -> None:
        url = urlsplit(route.request.url)
        if url.path in _WRITTEN:
            headers = {"Content-Security-Policy": POLICY}
            route.fulfill(body=_WRITTEN[url.path], content_type="text/html", headers=headers)
        elif (file := url.path.removeprefix("/pages/")) in _TEXTS:
            route.fulfill(body=_TEXTS[file], content_type=KINDS[Path(file).suffix])
        elif url.path.endswith("/events"):
            state = import_of(HOSTILE[0] if answers is STATES["hostile"] else "people.csv")
            event = f"event: progress\ndata: {json.dumps(state)}\n\n"
            route.fulfill(body=event, content_type="text/event-stream")
        else:
            found = answers.get(url.path, (404, "This does not exist."))
            if route.request.method == "POST" and isinstance(found, dict):
                found = import_of("people.csv")
            status, body = found if isinstance(found, tuple) else (200, found)
            if status != 200:
                body = {"error": {"type": "Refused", "message": body}}
            route.fulfill(status=status, json=body)

    return answer


def show(page: Page, path: str, answers: Answers, *, width: int = 1280) -> None:
    """Opens a page as somebody whose key is stored, and everything on it that can be opened."""
    page.unroute_all()
    page.route("**/*", answering(answers))
    page.set_viewport_size({"width": width, "height": 900})
    page.add_init_script("sessionStorage.setItem('api-key', 'tk_test')")
    page.goto(f"{DOOR}{path}" + ("?q=ann" if path.endswith("search") else ""))
    page.locator("#account:visible, #problem:not(:empty)").first.wait_for()
    listed = answers.get(LISTS[path])
    if isinstance(listed, dict) and listed["items"] and answers["/me"] is not REFUSED["/me"]:
        page.locator("#list li").nth(len(listed["items"]) - 1).wait_for()
    page.evaluate(
        "document.querySelectorAll('[aria-expanded=false], summary').forEach(each => each.click())"
    )
    page.wait_for_selector("[aria-expanded=false]", state="detached")
    if path == "/":
        page.locator("#file").set_input_files(
            {"name": "people.csv", "mimeType": "text/csv", "buffer": b"email\n"}
        )
        page.locator("#start").click()
        ended = "#status:visible:not(:text-is('Uploading')), #problem:visible:not(:empty)"
        page.locator(ended).first.wait_for()


def held(page: Page, listed: str) -> list[Route]:
    """Returns the requests for what is listed, none of which is answered by itself."""
    waiting: list[Route] = []
    page.route(lambda url: urlsplit(url).path == listed, lambda route: waiting.append(route))
    return waiting


def until(page: Page, waiting: list[Route], count: int) -> None:
    while len(waiting) < count:
        page.wait_for_timeout(5)


def answer(page: Page, waiting: list[Route], body: Answers, status: int = 200) -> None:
    """Answers the request that has waited longest, and lets the page read it."""
    path = urlsplit(waiting[0].request.url).path
    with page.expect_response(lambda response: urlsplit(response.url).path == path):
        waiting.pop(0).fulfill(json=body, status=status)
    page.wait_for_timeout(50)


def overflow(page: Page) -> int:
    """Returns how many pixels of the page are outside the screen."""
    return int(page.evaluate("document.documentElement.scrollWidth - innerWidth"))


@pytest.mark.parametrize("state", STATES)
def test_no_state_and_no_text_breaks_a_page_or_runs(page: Page, state: str) -> None:
    for path, title in PAGES.items():
        show(page, path, STATES[state])
        assert page.title() == f"{title} – Airline metering"
        assert page.locator("main img, main script").count() == 0
        assert "\u202e" not in page.inner_text("main")
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            assert overflow(page) <= 0, (path, width)


def test_numbers_are_read_from_the_right_and_words_from_the_left(page: Page) -> None:
    show(page, "/pages/search", FULL)
    cells = page.locator(".wide tbody tr").first.locator("td")
    cells.last.wait_for()
    alignments = cells.evaluate_all("all => all.map(each => getComputedStyle(each).textAlign)")
    assert alignments == ["start", "start", "right"]
    assert cells.all_inner_texts() == ["EWR", "IAH", "12,345"]
    assert page.get_by_text("1,234,567").is_visible()


def test_whatever_has_the_focus_shows_it(page: Page) -> None:
    for path in PAGES:
        show(page, path, FULL)
        page.locator("h1").click()
        seen = set()
        for _ in range(12):
            page.keyboard.press("Tab")
            tag, style, size = page.evaluate("""() => {
                const style = getComputedStyle(document.activeElement);
                return [document.activeElement.tagName, style.outlineStyle, style.outlineWidth];
            }""")
            if tag != "BODY":
                assert (style, size) == ("solid", "3px"), (path, tag)
            seen.add(tag)
        assert seen >= {"INPUT", "BUTTON"}


@pytest.mark.parametrize("status", [200, 401])
@pytest.mark.parametrize("path", PAGES)
def test_a_slow_answer_to_a_former_key_is_not_shown_under_the_new_one(
    page: Page, path: str, status: int
) -> None:
    """It would be another account's rows, or what is wrong with a key that is not there."""
    listed = LISTS[path]
    page.unroute_all()
    page.route("**/*", answering(FULL))
    waiting = held(page, listed)
    page.add_init_script("sessionStorage.setItem('api-key', 'tk_test')")
    page.goto(f"{DOOR}{path}" + ("?q=ann" if path.endswith("search") else ""))
    until(page, waiting, 1)
    former = [waiting.pop()]
    page.locator("#key").evaluate("field => { field.value = 'tk_other'; }")
    page.locator("#key").dispatch_event("change")
    until(page, waiting, 1)
    answer(page, waiting, EMPTY[listed])
    page.locator("#empty:visible").wait_for()
    problem = {"error": {"type": "Refused", "message": "That is not a valid key."}}
    answer(page, former, FULL[listed] if status == 200 else problem, status)
    assert page.locator("#list li").count() == 0
    assert page.locator("#problem").inner_text() == ""


@pytest.mark.parametrize("path", PAGES)
def test_nothing_of_an_account_stays_under_the_next_key(page: Page, path: str) -> None:
    show(page, path, FULL)
    page.unroute_all()
    page.route("**/*", answering(REFUSED))
    page.locator("#key").press("x")
    page.wait_for_timeout(50)
    assert page.locator("#list li, #account:visible, #result:visible").count() == 0
    page.locator("#key").press("Tab")
    page.locator("#problem:not(:empty)").wait_for()
    assert page.locator("#list li, #account:visible, #result:visible").count() == 0


def test_an_import_under_way_is_not_shown_under_another_key(page: Page) -> None:
    show(page, "/", FULL)
    events = held(page, "/imports/1/events")
    page.locator("#start").click()
    until(page, events, 1)
    page.locator("#key").press("x")
    page.locator("#result").wait_for(state="hidden")
    assert page.locator("#start").is_enabled()
    event = f"event: progress\ndata: {json.dumps(import_of('people.csv'))}\n\n"
    with page.expect_response("**/events"):
        events.pop().fulfill(body=event, content_type="text/event-stream")
    page.wait_for_timeout(50)
    assert not page.locator("#result").is_visible()


def test_a_key_that_was_typed_and_restored_shows_its_account_again(page: Page) -> None:
    show(page, "/", FULL)
    page.locator("#key").press("x")
    page.locator("#key").press("Backspace")
    page.locator("#key").press("Tab")
    page.locator("#account:visible").wait_for()
    page.locator("#list li").last.wait_for()


@pytest.mark.parametrize("answers", [FULL, REFUSED], ids=["valid", "refused"])
def test_a_button_that_is_pressed_right_after_the_key_was_typed_does_its_work(
    page: Page, answers: Answers
) -> None:
    """The account, or what is wrong, would move it away before the press has ended."""
    show(page, "/", FULL)
    page.unroute_all()
    page.route("**/*", answering(answers))
    page.locator("#key").press("x")
    box = page.locator("#start").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.down()
    page.wait_for_timeout(200)
    with page.expect_request(lambda asked: asked.method == "POST"):
        page.mouse.up()
    page.locator("#account:visible, #problem:not(:empty)").first.wait_for()


def test_a_search_that_begins_before_the_account_is_known_is_listed_once(page: Page) -> None:
    page.unroute_all()
    page.route("**/*", answering(FULL))
    accounts, searches = held(page, "/me"), held(page, "/search")
    page.add_init_script("sessionStorage.setItem('api-key', 'tk_test')")
    page.goto(f"{DOOR}/pages/search")
    until(page, accounts, 1)
    page.locator("#query").fill("ann")
    page.locator("#query").press("Enter")
    until(page, searches, 1)
    answer(page, accounts, FULL["/me"])
    until(page, searches, 2)
    for _ in range(2):
        answer(page, searches, FULL["/search"])
    assert page.locator("#list li").count() == len(FULL["/search"]["items"])


def test_two_clicks_show_more_and_details_once(page: Page) -> None:
    more = FULL["/search"] | {"next": "more"}
    show(page, "/pages/search", FULL | {"/search": more})
    searches, details = held(page, "/search"), held(page, "/contacts/1")
    page.locator("#more").dblclick()
    until(page, searches, 2)
    for _ in range(2):
        answer(page, searches, more)
    rows = page.locator("#list li")
    assert rows.count() == 2 * len(more["items"])
    rows.last.get_by_role("button").dblclick()
    until(page, details, 1)
    answer(page, details, FULL["/contacts/1"])
    assert not details
    assert rows.last.locator("dl").count() == 1
