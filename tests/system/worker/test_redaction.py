"""What a log line must not contain."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
from datetime import UTC, datetime
from enum import Enum

import httpx
import pytest
import structlog
from pydantic import BaseModel, ValidationError

from processes.logs import handler
from processes.redaction import format_exception, redact, redacted
from tests.fixtures.log_lines import LogLines

CANARY = "canary-3f1c"


class Colour(Enum):
    RED = "red"


class Model(BaseModel):
    count: int


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"postgresql+psycopg://me:{CANARY}@db:5432/x", "postgresql+psycopg://me:***@db:5432/x"),
        (f"redis://:{CANARY}@cache:6379/0", "redis://:***@cache:6379/0"),
        (f"smtp://me:{CANARY}@with/an@at:25", "smtp://me:***@at:25"),
        (f"pg://me:it's a {CANARY}@db/x and more", "pg://me:***@db/x and more"),
        (f"host=db password={CANARY} user=me", "host=db password=*** user=me"),
        (f"host=db password='{CANARY} x' user=me", "host=db password=*** user=me"),
        (f"Authorization: Bearer {CANARY}", "Authorization: ***"),
        (f'{{"api_key": "{CANARY}"}}', '{"api_key": ***}'),
        ("http://127.0.0.1:8233/namespaces", "http://127.0.0.1:8233/namespaces"),
        ("see http://localhost:8233 or ask me@corp", "see http://localhost:8233 or ask me@corp"),
        ('password authentication failed for "me"', 'password authentication failed for "me"'),
    ],
)
def test_passwords_are_hidden_in_text(text: str, shown: str) -> None:
    assert redacted(text) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (7, 7),
        (None, None),
        (True, True),
        ("text", "text"),
        (Colour.RED, "red"),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02 00:00:00+00:00"),
        (Model(count=1), "<Model>"),
        (b"bytes", "<bytes>"),
        ([Model(count=1), 2], ["<Model>", 2]),
        ({"password": CANARY, "n": 1}, {"password": "***", "n": 1}),
        (ValueError(f"x://u:{CANARY}@h"), "x://u:***@h"),
    ],
)
def test_only_plain_values_are_shown(value: object, shown: object) -> None:
    assert redact(None, "info", {"event": "e", "field": value})["field"] == shown


@pytest.mark.parametrize("name", ["password", "PGPASSWORD", "api_key", "task_token", "Cookie"])
def test_fields_with_a_secret_name_are_hidden(name: str) -> None:
    assert redact(None, "info", {"event": "e", name: CANARY})[name] == "***"


def test_what_does_not_validate_is_not_in_the_traceback() -> None:
    try:
        try:
            Model.model_validate({"count": CANARY})
        except ValidationError as error:
            raise RuntimeError("cannot read it") from error
    except RuntimeError as error:
        text = format_exception((type(error), error, error.__traceback__))
    assert CANARY not in text
    assert "Model: 1 invalid: count" in text
    assert "RuntimeError: cannot read it" in text


def test_a_traceback_shows_no_local_variables() -> None:
    hidden_value = CANARY
    try:
        raise RuntimeError("no")
    except RuntimeError:
        kind, error, trace = sys.exc_info()
        assert kind is not None
        assert error is not None
        text = format_exception((kind, error, trace))
    assert "test_a_traceback_shows_no_local_variables" in text
    assert hidden_value not in text


def test_text_for_people_hides_the_same() -> None:
    stream = io.StringIO()
    logger = logging.Logger("test", logging.INFO)
    logger.addHandler(handler(format="console", stream=stream))
    try:
        raise RuntimeError(f"x://u:{CANARY}@h")
    except RuntimeError:
        logger.exception("event.failed", extra={"token": CANARY})
    assert "event.failed" in stream.getvalue()
    assert "RuntimeError: x://u:***@h" in stream.getvalue()
    assert CANARY not in stream.getvalue()


async def test_no_line_has_the_url_of_a_request(log_lines: LogLines) -> None:
    answering = httpx.MockTransport(lambda request: httpx.Response(200))
    async with httpx.AsyncClient(transport=answering) as http:
        await http.post(f"https://hooks.example/{CANARY}")
    assert CANARY not in log_lines.text


def test_the_log_of_the_librarys_processes_has_none_either() -> None:
    program = (
        "import logging; from temporal_tenancy.cli._process_logs import write_logs; "
        f"write_logs('me'); logging.getLogger('httpx').info('POST {CANARY}'); "
        "logging.getLogger('app').info('said')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "said" in done.stderr
    assert CANARY not in done.stderr


def test_a_line_of_structlog_in_text_for_people_is_whole() -> None:
    stream = io.StringIO()
    logger = logging.Logger("test", logging.INFO)
    logger.addHandler(handler(format="console", stream=stream, worker="w1"))
    wrapped = structlog.wrap_logger(
        logger, processors=[structlog.stdlib.ProcessorFormatter.wrap_for_formatter]
    )
    wrapped.info("event.done", count=3)
    assert "event.done" in stream.getvalue()
    assert "count=3" in stream.getvalue()
    assert "worker=w1" in stream.getvalue()
