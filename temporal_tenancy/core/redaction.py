"""Errors and log fields without credentials, and without what they quote of a job's data.

Whoever writes an error for people chooses its words: the library's errors and `ApplicationError`s
are such. The words of any other exception (`KeyError`, `ValueError`, a driver's) may quote whatever
the code had in hand, so a job's log lines, spans and error reports have its type and its frames
only. The failure of the run, which is the tenant's, has the words too, without the texts of the
input and without credentials.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import date, timedelta
from enum import Enum
from functools import cached_property
from itertools import islice
from pathlib import PurePath
from types import TracebackType
from typing import Any, Final
from uuid import UUID

from pydantic import BaseModel, SecretStr, ValidationError
from temporalio.exceptions import FailureError

HIDDEN: Final = "***"
DEPTH: Final = 4  # levels of nested mappings and lists that are logged
TEXT_MIN_CHARACTERS: Final = 6  # a shorter text of an input is in many sentences by chance
TEXTS_MAX: Final = 10_000  # texts of an input that are looked for
_INPUT_DEPTH: Final = 100  # as for the payload of a message

ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None]

_SECRET_NAME: Final = re.compile(
    r"passw(or)?d|secret|token|api_?key|private_?key|authorization|cookie|credential", re.IGNORECASE
)
# A port and what follows it is not a password. A password ends at the line's last "@": better to
# hide too much than to show the rest of a password that contains an "@".
_USERINFO: Final = re.compile(r"(://[^\s:/@]*):(?!\d{1,5}(?:[/?#\s\"]|$))")
_ASSIGNMENT: Final = re.compile(
    r"(\b(?:password|passwd|pwd|secret|token|api[_-]?key|authorization)['\"]?\s*[=:]\s*)"
    r"('[^'\n]*'|\"[^\"\n]*\"|(?:bearer\s+)?[^\s,;]+)",
    re.IGNORECASE,
)
# What PostgreSQL and SQLAlchemy add to an error: the row, and the parameters of the statement.
_ROW: Final = re.compile(r"^(DETAIL|CONTEXT):[^\n]*(\n[ \t][^\n]*)*", re.MULTILINE)
_PARAMETERS: Final = "[parameters: "
_PARAMETERS_END: Final = re.compile(r"\](?=\n|$)")
_WITHHELD: Final = "__tenancy_withheld__"
_AUTHORS: Final = frozenset({__name__.split(".", 1)[0], "temporalio"})


@dataclass(eq=False)
class _Withheld:
    """What the errors of one attempt must not repeat."""

    values: tuple[object, ...]  # the input
    known: str  # what every line names anyway, such as the workflow id
    secrets: list[str] = field(default_factory=list)

    @cached_property
    def texts(self) -> list[str]:
        """The texts of the input, longest first."""
        found = set(islice(_texts(self.values, _INPUT_DEPTH), TEXTS_MAX))
        return sorted((text for text in found if text not in self.known), key=len, reverse=True)


_current: ContextVar[_Withheld | None] = ContextVar("tenancy_withheld", default=None)


@contextmanager
def withholding(values: Iterable[object] = (), *, known: str = "") -> Iterator[None]:
    """Marks the errors that leave the block, so that their words do not repeat `values`.

    Args:
        values: the input of a job or an activity: models, mappings, lists and texts.
        known: a text whose parts may be repeated, such as the workflow id.
    """
    withheld = _Withheld(tuple(values), known)
    token = _current.set(withheld)
    try:
        yield
    except BaseException as error:
        for each in with_causes(error):
            if getattr(each, _WITHHELD, None) is None:
                _mark(each, withheld)
        raise
    finally:
        with suppress(ValueError):  # the coroutine of an evicted workflow is closed elsewhere
            _current.reset(token)


def never_repeat(secret: str) -> None:
    """Hides `secret` in the words of all errors that leave the running activity.

    Call it with each credential that code reads for itself, such as a partner's token. Outside an
    activity it does nothing.
    """
    withheld = _current.get()
    if withheld is not None and secret:
        withheld.secrets.append(secret)


def words_of(error: BaseException, values: Iterable[object] = ()) -> str:
    """Returns an error's message without credentials; "" if its `__str__` raises.

    If nobody wrote the message for people, it is also without the texts of the attempt's input, and
    without those of `values`.
    """
    if isinstance(error, ValidationError):
        return validation_summary(error)
    try:
        words = error.message if isinstance(error, FailureError) else str(error)
    except Exception:  # any class's own __str__, or an integer too long to convert
        return ""
    withheld: _Withheld | None = getattr(error, _WITHHELD, None)
    hidden = [] if withheld is None else list(withheld.secrets)
    if not is_for_people(error):
        words = _without_rows(words)
        hidden += [] if withheld is None else withheld.texts
        hidden += _Withheld(tuple(values), "").texts
    for text in hidden:
        words = _without(words, text)
    return redacted(words)


def is_for_people(error: BaseException) -> bool:
    """Whether somebody wrote the error's message for people, so that it may be logged."""
    return isinstance(error, FailureError) or type(error).__module__.split(".", 1)[0] in _AUTHORS


def redacted(text: str) -> str:
    """Returns `text` without the passwords in it."""
    if "://" in text and "@" in text:
        text = "\n".join(map(_without_password, text.split("\n")))
    return _ASSIGNMENT.sub(rf"\1{HIDDEN}", text)


# Not patterns with `[^\n]*@` or `.*?]`: they would look for the end from each beginning.
def _without_password(line: str) -> str:
    last = line.rfind("@")
    found = _USERINFO.search(line)
    if found is None or found.end() > last:
        return line
    return f"{line[: found.end(1)]}:{HIDDEN}{line[last:]}"


def _without_parameters(text: str) -> str:
    parts: list[str] = []
    done = 0
    while (begin := text.find(_PARAMETERS, done)) >= 0:
        end = _PARAMETERS_END.search(text, begin)
        if end is None:
            break
        parts += text[done:begin], f"{_PARAMETERS}{HIDDEN}]"
        done = end.end()
    return "".join([*parts, text[done:]])


def traceback_of(error: BaseException, *, of_a_job: bool) -> str:
    """Renders an error with its causes: frames without local variables, types, and words.

    Args:
        error: the error.
        of_a_job: whether a job or a request raised it; then the words that nobody wrote for people
            are hidden.
    """
    return "\n".join(_rendered(error, set(), of_a_job)).rstrip("\n")


def with_causes(error: BaseException) -> list[BaseException]:
    """Returns an error, its causes, contexts and the errors of its groups, each once."""
    found: dict[int, BaseException] = {}
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in found:
            continue
        found[id(each)] = each
        inner = each.exceptions if isinstance(each, BaseExceptionGroup) else ()
        waiting += (each.__cause__, each.__context__, *inner)
    return list(found.values())


def shown(name: str, value: Any, depth: int = DEPTH) -> Any:  # a log field of any type
    """Returns the value of the log field `name`, without credentials and the content of objects.

    A value whose name marks it as secret is hidden. Of other objects, such as an input model, only
    the type's name is shown.
    """
    if value is None or isinstance(value, bool | int | float):
        return value
    if _SECRET_NAME.search(name):
        return HIDDEN
    if isinstance(value, Enum):
        return shown(name, value.value, depth)
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, BaseException):
        return words_of(value)
    if isinstance(value, date | timedelta | UUID | PurePath):
        return redacted(str(value))
    if isinstance(value, Mapping) and depth:
        return {str(key): shown(str(key), each, depth - 1) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset) and depth:
        return [shown(name, each, depth - 1) for each in value]
    return f"<{type(value).__name__}>"


def validation_summary(error: ValidationError) -> str:
    """Returns which fields are invalid, without their values."""
    problems = error.errors(include_input=False, include_context=False, include_url=False)
    fields = ", ".join(".".join(map(str, problem["loc"])) or "input" for problem in problems)
    return f"{error.title}: {error.error_count()} invalid: {fields}"


def _rendered(error: BaseException, seen: set[int], of_a_job: bool) -> Iterator[str]:
    seen.add(id(error))
    cause, context = error.__cause__, error.__context__
    if cause is not None and id(cause) not in seen:
        yield from _rendered(cause, seen, of_a_job)
        yield "\nThe above exception was the direct cause of the following exception:\n"
    elif context is not None and not error.__suppress_context__ and id(context) not in seen:
        yield from _rendered(context, seen, of_a_job)
        yield "\nDuring handling of the above exception, another exception occurred:\n"
    if error.__traceback__ is not None:
        yield "Traceback (most recent call last):"
        yield "".join(traceback.format_tb(error.__traceback__)).rstrip("\n")
    yield _last_line(error, of_a_job)
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            if id(each) not in seen:
                text = "\n".join(_rendered(each, seen, of_a_job))
                yield "\n".join(f"  | {line}" for line in text.splitlines())


def _last_line(error: BaseException, of_a_job: bool) -> str:
    kind = type(error)
    name = kind.__qualname__
    if kind.__module__ not in ("builtins", "__main__"):
        name = f"{kind.__module__}.{name}"
    hides = of_a_job and not is_for_people(error) and not isinstance(error, ValidationError)
    if isinstance(error, FailureError):
        words = str(error)  # with the type
        shown = words_of(error)
        words = words.replace(error.message, shown) if error.message else words
    else:
        words = words_of(error)
    if hides and words:
        words = HIDDEN
    return f"{name}: {words}" if words else name


def _without_rows(words: str) -> str:
    return _without_parameters(_ROW.sub(rf"\1: {HIDDEN}", words))


def _without(words: str, text: str) -> str:
    """Returns `words` without `text`, as it is or as `repr()` and JSON write it."""
    for form in {text, repr(text)[1:-1], text.encode("unicode_escape").decode("ascii")}:
        words = words.replace(form, HIDDEN)
    return words


def _texts(value: object, depth: int) -> Iterator[str]:
    """Yields the texts of a value that are long enough to be looked for."""
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, Enum):
        return
    if isinstance(value, str):
        if len(value) >= TEXT_MIN_CHARACTERS:
            yield str(value)
    elif depth == 0:
        return
    elif isinstance(value, BaseModel):
        for each in vars(value).values():
            yield from _texts(each, depth - 1)
        yield from _texts(value.model_extra, depth - 1)
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each, depth - 1)
    elif isinstance(value, list | tuple | set | frozenset):
        for each in value:
            yield from _texts(each, depth - 1)


def _mark(error: BaseException, withheld: _Withheld) -> None:
    try:
        setattr(error, _WITHHELD, withheld)
    except Exception:  # a class's own __setattr__ may refuse
        return
