"""Commands of starter.py one after the other: JSON in, and what each said as JSON out."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence

from processes.cli.app import main


@contextlib.contextmanager
def environment(variables: Mapping[str, str | None]) -> Iterator[None]:
    before = dict(os.environ)
    for name, value in variables.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def say(arguments: Sequence[str], variables: Mapping[str, str | None]) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with (
        environment(variables),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = main(arguments)
    return code, out.getvalue(), err.getvalue()


if __name__ == "__main__":
    print(json.dumps([say(*command) for command in json.load(sys.stdin)]), flush=True)
    os._exit(0)  # as process_exit: the SDK's threads may not meet the end of the interpreter
