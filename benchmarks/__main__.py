"""`python -m benchmarks`: asks every question, and prints one line of JSON for each answer."""

from __future__ import annotations

import argparse
import asyncio
import sys

from benchmarks import activity_overhead, fan_out_throughput, row_level_security
from benchmarks.measure import tell
from benchmarks.servers import running_servers
from devstack.errors import PartMissing
from devstack.signals import orderly_stop

QUESTIONS = {
    module.NAME: module.answers
    for module in (row_level_security, activity_overhead, fan_out_throughput)
}


def main() -> int:
    """Returns 0 when every goal holds, 1 when one does not, 2 or 3 when nothing was measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("-k", metavar="NAME", default="", help="only questions with this in them")
    wanted = parser.parse_args().k
    chosen = {name: ask for name, ask in QUESTIONS.items() if wanted in name}
    if not chosen:
        tell(f"there is no question {wanted!r}. There are: {', '.join(QUESTIONS)}.")
        return 2
    all_hold = True
    try:
        with orderly_stop(), running_servers() as servers:
            for ask in chosen.values():
                for answer in asyncio.run(ask(servers)):
                    print(answer.line(), flush=True)
                    all_hold &= answer.holds
    except PartMissing as error:
        tell(str(error))
        return 3
    return 0 if all_hold else 1


if __name__ == "__main__":
    sys.exit(main())
