"""Runs commands of starter.py one after the other, and prints what each has loaded.

Arguments: a JSON list of commands, each a list of words. Prints, on the last line of standard
output, a JSON list with a pair for each: its exit code, and the modules that it was the first to
load; the first one's are all that there are.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import redirect_stdout

from temporal_tenancy.cli import exit_process

if __name__ == "__main__":
    from processes.cli.app import main

    found = []
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        before: set[str] = set()
        for command in json.loads(sys.argv[1]):
            code = main(command)
            found.append((code, sorted(set(sys.modules) - before)))
            before = set(sys.modules)
    print(json.dumps(found))
    exit_process(0)
