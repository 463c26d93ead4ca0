"""`python -m tests.mutants`: seeds one fault at a time, and shows which test finds it.

First it runs all the tests that should find a fault without any: if one of them fails, the table
would mean nothing.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Final

from dev.devstack.signals import orderly_stop
from tests.mutants.faults import MUTANTS
from tests.mutants.mutant import Mutant
from tests.mutants.report import Verdict
from tests.mutants.runs import TEST_TIMEOUT, Run, run

LAST_LINES: Final = 30  # shown of the output of a broken run


def main() -> int:
    """Returns 0 if every mutant is killed, 1 if one is not, 2 if a name is unknown."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument(
        "--only", metavar="NAME", action="append", help="run only this mutant; repeatable"
    )
    parser.add_argument("--list", action="store_true", help="list the mutants and run none")
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=int,
        default=TEST_TIMEOUT,
        help=f"how long one test may take; {TEST_TIMEOUT} by default",
    )
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.only or ()) - set(MUTANTS))
    if unknown:
        print(f"there is no mutant {unknown[0]!r}. --list shows all of them.", file=sys.stderr)
        return 2
    chosen = [MUTANTS[name] for name in arguments.only or MUTANTS]
    if arguments.list:
        for mutant in chosen:
            print(f"{mutant.name:<{_widths(chosen)[0]}}  {mutant.what}")
        return 0
    with orderly_stop():
        return _try_all(chosen, arguments.timeout)


def _try_all(mutants: Sequence[Mutant], timeout: int) -> int:
    killers = sorted({test for mutant in mutants for test in mutant.killers})
    control = run(killers, None, timeout=timeout)
    if control.verdict is not Verdict.SURVIVED:
        print(_end_of(control))
        print("these tests fail without a fault, so they cannot find any.")
        return 1
    print(
        f"without a fault {len(killers)} tests or files pass, in {control.seconds:.0f} s\n",
        flush=True,
    )
    name, what = _widths(mutants)
    began = time.monotonic()
    verdicts: list[Verdict] = []
    for mutant in mutants:
        tried = run(mutant.killers, mutant, timeout=timeout)
        verdicts.append(tried.verdict)
        by = tried.first.test if tried.first and tried.verdict is Verdict.KILLED else ""
        print(
            f"{mutant.name:<{name}}  {tried.verdict:<8} {tried.seconds:5.1f} s  "
            f"{mutant.what:<{what}}  {by}".rstrip(),
            flush=True,
        )
        if tried.verdict is Verdict.BROKEN:
            print(_end_of(tried))
    killed = verdicts.count(Verdict.KILLED)
    print(f"\n{killed} of {len(mutants)} killed, in {time.monotonic() - began:.0f} s")
    return 0 if killed == len(mutants) else 1


def _widths(mutants: Sequence[Mutant]) -> tuple[int, int]:
    """Returns the widths of the columns for the name and the fault."""
    return max(len(m.name) for m in mutants), max(len(m.what) for m in mutants)


def _end_of(tried: Run) -> str:
    return "\n".join(f"    {line}" for line in tried.output.splitlines()[-LAST_LINES:])


if __name__ == "__main__":
    sys.exit(main())
