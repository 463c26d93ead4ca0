"""`python -m tests.mutants.seeds`: seeds each fault in a process of its own, and runs no test.

It finds mutants that replace something that has moved since. Exit code 1 if there are any.
"""

from __future__ import annotations

import os
import sys
import traceback

from tests.mutants.faults import MUTANTS
from tests.mutants.mutant import Mutant


def main() -> int:
    """Prints the mutants that cannot be seeded; returns 1 if there are any."""
    stale = [mutant.name for mutant in MUTANTS.values() if not _takes(mutant)]
    for name in stale:
        print(f"{name} cannot be seeded")
    return 1 if stale else 0


def _takes(mutant: Mutant) -> bool:
    """Whether the fault can be seeded; tried in a fork, since a seed is never taken back."""
    child = os.fork()
    if child == 0:
        try:
            mutant.seed()
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


if __name__ == "__main__":
    sys.exit(main())
