"""The command `tenancy`, which is also `python -m temporal_tenancy`."""

from __future__ import annotations

import sys
from typing import Final

from temporal_tenancy.cli import ExitCode, begin_process, exit_process

_NEEDED: Final = ("typer", "rich")  # what the core alone does not install


def main() -> None:
    """Runs one command and ends the process."""
    begin_process()
    try:
        from temporal_tenancy.cli.tenancy import tenancy
    except ModuleNotFoundError as error:
        if error.name not in _NEEDED:
            raise
        print(
            f"ModuleNotFoundError: this command needs {error.name}. "
            'Run: pip install "temporal-tenancy[postgres]".',
            file=sys.stderr,
        )
        exit_process(ExitCode.REFUSED)
    except KeyboardInterrupt:  # so early that nothing has begun
        exit_process(ExitCode.INTERRUPTED)
    exit_process(tenancy(sys.argv[1:]))


if __name__ == "__main__":
    main()
