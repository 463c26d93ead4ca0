"""`python -m tests.held_names`: what has changed of the names that others hold on to."""

from __future__ import annotations

import argparse
import sys

from tests.held_names.lists import changes, write


def main() -> int:
    """Returns 0 where the lists are those of the code, or are so now; 1 where they differ."""
    parser = argparse.ArgumentParser(prog="python -m tests.held_names", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the lists as the code is")
    given = parser.parse_args()
    found = changes()
    for line in found:
        print(line)
    if given.write:
        write()
    return 0 if given.write or not found else 1


if __name__ == "__main__":
    sys.exit(main())
